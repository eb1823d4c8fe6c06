//! Machines in clouds: the metadata service at its real address in the guest's network, as the firmware says that it is there.

use anyhow::{Result, ensure};
use berth_qemu::demo::HEADING;
use berth_tests::{Cloud, Firmware, Guest, Instance, Service, WEB, public_key};

/// The same machine and another one.
const UUIDS: [&str; 2] = ["ec2e1916-908a-47c2-8b2a-1f37de1e7d1f", "ec2a0b0c-908a-47c2-8b2a-1f37de1e7d20"];
/// Seconds; these services answer, or never will.
const DEADLINE: &str = "berth.metadata_deadline=20";

fn user_data() -> String {
    format!("format = 1\n{WEB}")
}

#[test]
fn an_ec2_instance_comes_up_as_its_metadata_says_and_asks_again_when_it_is_another_one() -> Result<()> {
    let instance = Instance {
        id: "i-0123456789abcdef0".into(),
        hostname: "ip-10-0-0-1.ec2.internal".into(),
        keys: vec![public_key()?, "ssh-rsa AAAAB3NzaC1yc2E old@laptop".into()],
        user_data: Some(user_data()),
        ..Instance::default()
    };
    let service = Service::start(Cloud::Ec2, instance.clone())?;
    service.is_busy_for(2);
    let plan = Guest::new(Firmware::Direct)?.without_config().words(DEADLINE);
    let with = |uuid: &'static str| {
        let service = service.clone();
        move |machine: berth_qemu::machine::Machine| machine.in_cloud(&service).uuid(uuid)
    };
    let mut guest = plan.machine(with(UUIDS[0])).boot()?;
    guest.wait_for("the firmware says that this is ec2: asked for 20 s at most")?;
    guest
        .wait_for("Amazon EC2 does not answer yet: http://169.254.169.254: /latest/api/token: it says 503")?;
    guest.wait_for("\"ssh-rsa … old@laptop\" is of type")?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    // The key is the metadata's.
    let client = guest.client()?;
    let status = client.config_status()?;
    assert_eq!(status.source, "ec2 (http://169.254.169.254)");
    assert_eq!(status.instance, "i-0123456789abcdef0 (ec2)");
    assert!(status.looked.iter().any(|line| line.contains("2 keys")), "{:?}", status.looked);
    assert_eq!(client.machine()?.hostname, "ip-10-0-0-1");

    // The same machine does not ask again.
    let asked = service.asked().len();
    let mut guest = guest.power_off()?.boot()?;
    guest.ready()?;
    assert_eq!(guest.client()?.config_status()?.source, "state");
    ensure!(service.asked().len() == asked, "{:?}", service.asked());

    // Another one does, and is another one then.
    service.becomes(Instance { id: "i-copy".into(), hostname: "copy".into(), ..instance });
    let mut guest = guest.power_off()?.machine(with(UUIDS[1])).boot()?;
    guest.wait_for("kept, but of another machine, i-0123456789abcdef0 (ec2): looked for anew")?;
    guest.ready()?;
    let client = guest.client()?;
    assert_eq!(client.config_status()?.instance, "i-copy (ec2)");
    assert_eq!(client.machine()?.hostname, "copy");
    Ok(())
}

#[test]
fn a_google_instance_whose_script_is_refused_can_be_reached_and_one_without_comes_up() -> Result<()> {
    let instance = Instance {
        id: "1234567890123456789".into(),
        hostname: "vm-1.c.project.internal".into(),
        keys: vec![format!("me:{}", public_key()?)],
        user_data: Some(user_data()),
        attributes: vec![("startup-script".into(), "#!/bin/sh\nreboot\n".into())],
    };
    let service = Service::start(Cloud::Gce, instance.clone())?;
    let there = service.clone();
    let plan = Guest::new(Firmware::Direct)?.without_config().words(DEADLINE);
    let mut guest = plan.machine(move |machine| machine.in_cloud(&there)).boot()?;
    guest.wait_for("config   refused, from gce (http://169.254.169.254):")?;
    guest.wait_for("attributes/startup-script is refused: there is no shell on the machine")?;
    guest.ready()?;
    assert!(!guest.serves(), "a unit of a refused config runs");
    let client = guest.client()?;
    assert_eq!(client.config_status()?.state, "refused");
    assert_eq!(client.machine()?.hostname, "vm-1");

    service.becomes(Instance { attributes: vec![], ..instance });
    let mut guest = guest.power_off()?.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    assert_eq!(guest.client()?.config_status()?.instance, "1234567890123456789 (gce)");
    Ok(())
}

#[test]
fn a_machine_in_a_cloud_whose_service_never_answers_comes_up_all_the_same() -> Result<()> {
    let service = Service::start(Cloud::Ec2, Instance::default())?;
    service.is_busy_for(u32::MAX);
    let plan =
        Guest::new(Firmware::Direct)?.without_config().without_web_image().words("berth.metadata_deadline=3");
    let mut guest = plan.machine(move |machine| machine.in_cloud(&service)).boot()?;
    guest.wait_for("lease ")?;
    guest.wait_for("config   none found")?;
    guest.wait_for("ec2: given up after 3 s")?;
    guest.api_listens()?;
    guest.ready()
}
