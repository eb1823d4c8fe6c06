use super::*;
#[test]
fn adhoc() {
    let text = "[unit]\ndescription = 5\nafter = [\"a\", \"B\", \"a\"]\nwants = []\n[contaner]\nimage=\"x\"\n[resources]\nmemroy = \"64M\"\nmemory = 64\ncpus = \"0.5\"\npids = 0\nimage = \"x\"\n[restart]\ndelay = \"5\"\npolicy = \"on-failur\"\n[health]\n[system]\n[network]\nmode = \"host\"\nports = [\"80\", \"1:2\", \"1:3\"]\n";
    println!("{}", parse_unit("web.toml", "web", text.as_bytes(), Origin::Config).unwrap_err());
    let text = "[unit]\ndescription = 5x\nafter = [\"a\"\nwants = []\n[container]\nimage=\"x\"\n";
    println!("{}", parse_unit("web.toml", "web", text.as_bytes(), Origin::Config).unwrap_err());
    let text = "[unit]\ndescription = x\nfoo = 1\n[container]\nimage=\"x\"\nimage=\"y\"\n[unit]\nafter=[\"x\"]\n[container.foo]\n[x\nmemroy = 1";
    println!("{}", parse_unit("web.toml", "web", text.as_bytes(), Origin::Config).unwrap_err());
    let text = "format = 1\nunits.web.container.image=\"x\"\nhostnam=\"x\"\n[units.db.unit]\nrequires=[\"web\"]\nafter=[\"nett\"]\n[units.web.unit]\nafter=[\"db\"]\n[units.web.network]\nports=[\"7443:80\",\"80:80\"]\n[units.db.network]\nports=[\"127.0.0.1:80:8\"]\n[[network.interface]]\naddress=\"10.0.0.1/24\"\ngateway=\"10.1.0.1\"\n";
    println!("{}", crate::config::check("berth.toml", text.as_bytes(), &[]).unwrap_err());
}
