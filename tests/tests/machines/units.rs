//! Units on a booted machine: what a container may, what it is kept from, what is said about one that fails, and the
//! order in which they come and go.

mod copies;

use anyhow::{Context, Result};
use berth_ctl::client::InUnit;
use berth_ctl::support::Bundle;
use berth_ctl::{LogOptions, Outcome, Streams};
use berth_tests::shell::{plan, says, shell, shell_as};
use berth_tests::{Event, Guest, SOON};
use berth_units::config::edit::Edit;
use berth_units::control::{Drive, ExecRequest};
use berth_units::generation::Verdict;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_container_sees_itself_only_and_has_few_rights() -> Result<()> {
    // What starts no program of its own comes first: it would count.
    let look = "set -- /proc/[0-9]*; echo processes $#, mine is $$; set -- /sys/class/net/*; echo interfaces $*; \
                [ -e /run/berth ] || echo no control socket; [ -e /var/lib/berth ] || echo no state; \
                $b cat /proc/self/uid_map; $b grep -E \"NoNewPrivs|Seccomp:\" /proc/self/status; \
                echo uid $($b id -u) greeting $GREETING in $($b pwd); \
                $b mknod /data/null c 1 3 || echo no nodes; $b touch /x || echo root is read-only; \
                $b touch /data/x && echo data is writable; \
                $b dd if=/dev/zero of=/data/big bs=64k count=64 2>/dev/null || echo data is full; \
                echo it holds $($b wc -c < /data/big); exec $b sleep 1000";
    let alone = shell(
        "alone",
        look,
        "read_only = true\nworkdir = \"/srv\"\ntmpfs = { \"/data\" = \"1M\" }\nenv = { GREETING = \"hello\" }\n\
         [units.alone.network]\nmode = \"none\"\n",
    );
    let host = shell(
        "host",
        "set -- /sys/class/net/*; echo interfaces $*; [ -e /run/berth ] || echo no control socket; \
         $b touch /x && echo root is writable; $b ifconfig eth0 down || echo no rights; exec $b sleep 1000",
        "[units.host.network]\nmode = \"host\"\n",
    );
    let user = "echo $($b id -u):$($b id -g); $b touch /srv/x || echo not its folder; exec $b sleep 1000";
    let named = shell_as("www", "named", user, "");
    let numbered = shell_as("1000:1001", "numbered", user, "");
    let unknown = shell_as("nobody", "unknown", user, "[units.unknown.restart]\npolicy = \"no\"\n");

    let debug = shell(
        "debug",
        "set -- /proc/[0-9]*; [ $# -gt 10 ] && echo sees the processes; [ -e /proc/1/root/run/berth ] && echo reaches them; \
         [ -e /host/usr/lib/berth ] && echo sees the root; $b grep CapEff /proc/self/status; exec $b sleep 1000",
        "privileged = true\npid = \"host\"\nmounts = [\"/:/host\"]\n[units.debug.network]\nmode = \"host\"\n",
    );
    let given = shell(
        "given",
        "echo $($b cat /etc/given.conf); [ -c /dev/port ] && echo has the port; echo x > /dev/port || echo only to be read; \
         $b cat /host/cgroup/units/given/io.max /host/cgroup/units/given/io.weight; exec $b sleep 1000",
        "mounts = [\"given.conf:/etc/given.conf\", \"/sys/fs/cgroup:/host/cgroup\"]\n\
         devices = [\"/dev/ttyS0:/dev/port:ro\"]\n\
         [units.given.resources]\nio_weight = 50\nio_max = { read = \"1M\" }\n[files]\n\"given.conf\" = \"of the config\"\n",
    );
    let thief = shell(
        "thief",
        "exec $b sleep 1000",
        "devices = [\"/dev/vda\"]\n[units.thief.restart]\npolicy = \"no\"\n",
    );

    let mut guest = plan(&[alone, host, named, numbered, unknown, debug, given, thief])?.boot()?;
    guest.ready()?;
    for unit in ["alone", "host", "named", "numbered", "debug", "given"] {
        guest.healthy(unit)?;
    }
    says(&mut guest, "debug", &["sees the processes", "reaches them", "sees the root"])?;
    says(&mut guest, "debug", &["CapEff:\t000001ffffffffff"])?;
    // Each start is told.
    guest.client()?.drive("debug", Drive::Restart)?;
    guest.wait_for(
        "debug    can do anything to this machine: privileged, host processes, host network, reads /",
    )?;
    assert_eq!(guest.unit("debug")?.privileges, ["privileged", "host processes", "host network", "reads /"]);
    says(&mut guest, "given", &["of the config", "has the port", "only to be read", "default 50"])?;
    let log = guest.log("given")?.join("\n");
    assert!(log.contains(" rbps=1048576 wbps=max riops=max wiops=max"), "{log}");
    assert_eq!(guest.unit("given")?.privileges, ["reads /sys/fs/cgroup", "reads /dev/ttyS0"]);
    guest
        .until("thief", |state, reason| state == "failed" && reason.contains("that Berth itself lies on"))?;
    let log = guest.log("alone")?.join("\n");
    let has = |text: &str| assert!(log.contains(text), "no {text:?} in:\n{log}");
    has("processes 1, mine is 1");
    has("interfaces /sys/class/net/lo\n");
    has("no control socket");
    has("no state");
    has("uid 0 greeting hello in /srv");
    has("NoNewPrivs:\t1");
    has("Seccomp:\t2");
    has("no nodes");
    has("root is read-only");
    has("data is writable");
    has("data is full");
    has("it holds 1048576");
    let map = log.lines().find(|line| line.trim_end().ends_with(" 65536")).unwrap_or_default();
    let outside = map.split_whitespace().nth(1).and_then(|id| id.parse::<u32>().ok());
    assert!(outside.is_some_and(|id| id >= 1 << 20), "root inside is {outside:?} outside");

    let log = guest.log("host")?.join("\n");
    let interfaces = log.lines().find(|line| line.starts_with("interfaces ")).context("no interfaces")?;
    assert!(interfaces.contains("/eth0") && interfaces.contains("/lo"), "{interfaces}");
    says(&mut guest, "host", &["no control socket", "root is writable", "no rights"])?;
    assert_eq!(guest.unit("host")?.privileges, ["host network"]);

    says(&mut guest, "named", &["33:33", "not its folder"])?;
    says(&mut guest, "numbered", &["1000:1001", "not its folder"])?;
    guest.until("unknown", |state, reason| state == "failed" && reason.contains("no user \"nobody\""))
}

#[test]
fn a_unit_that_fails_is_told_with_its_reason() -> Result<()> {
    let crash = shell(
        "crash",
        "echo up; exit 3",
        "[units.crash.restart]\ndelay = \"1s\"\nmax_delay = \"3s\"\nlimit = 3\ninterval = \"10m\"\n",
    );
    // What it wrote before it died is still there.
    let once = shell("once", "[ -e /was ] || { >/was; exit 1; }; exec $b sleep 1000", "");
    let greedy = shell(
        "greedy",
        "x=aaaaaaaa; while :; do x=$x$x; done",
        "[units.greedy.resources]\nmemory = \"16M\"\n[units.greedy.restart]\npolicy = \"no\"\n",
    );
    // The inner shell ends when it cannot fork; the outer one counts without a process.
    let forks = shell(
        "forks",
        "( while :; do $b sleep 1000 & done ); set -- /proc/[0-9]*; echo processes $#; exec $b sleep 1000",
        "[units.forks.resources]\npids = 16\n",
    );
    let chatty = shell(
        "chatty",
        "echo the beginning; $b yes 0123456789012345678901234567890123456789012345678901234567890123456789 | \
         $b head -c 5000000; echo; echo the end; exec $b sleep 1000",
        "",
    );
    let nobody =
        "[units.nobody]\ncontainer.image = \"berth.example/none:1\"\nrestart.policy = \"no\"\n".to_owned();
    let barred = shell("barred", "exec $b sleep 1000", "[units.barred.unit]\nrequires = [\"nobody\"]\n");
    let mut guest = plan(&[crash, once, greedy, forks, chatty, nobody, barred])?.boot()?;
    for pause in ["restart 1 in 1 s", "restart 2 in 2 s", "restart 3 in 3 s"] {
        guest.wait_for(&format!("crash    backoff: exit code 3, {pause}"))?;
    }
    guest.wait_for("crash    failed: exit code 3; not restarted after 3 restarts")?;
    assert_eq!(guest.log("crash")?, ["up"; 4]);
    assert_eq!(guest.client()?.unit("crash")?.exits.len(), 4);

    guest.until("greedy", |state, reason| state == "failed" && reason.contains("memory"))?;
    guest.until("nobody", |_, reason| reason.contains("berth.example/none:1"))?;
    // An image may still come, so whoever needs the unit waits.
    guest.until("barred", |state, reason| state == "waiting" && reason == "for nobody")?;
    guest.healthy("once")?;
    assert_eq!(guest.unit("once")?.restarts, 1);

    guest.healthy("forks")?;
    let log = guest.log("forks")?;
    assert!(log.iter().any(|line| line.contains("can't fork")), "{log:?}");
    assert!(log.iter().any(|line| line == "processes 15"), "{log:?}");

    guest.healthy("chatty")?;
    let end = Instant::now() + SOON;
    let log = loop {
        let log = guest.log("chatty")?;
        if log.last().is_some_and(|line| line == "the end") {
            break log;
        }
        anyhow::ensure!(Instant::now() < end, "the newest line is {:?}", log.last());
    };
    let kept: usize = log.iter().map(|line| line.len() + 24).sum();
    assert!((100_000..600_000).contains(&kept), "{kept} bytes are kept of 5 MB");
    assert!(!log.iter().any(|line| line == "the beginning"), "the oldest line is still there");
    Ok(())
}

#[test]
fn volumes_outlive_their_containers_and_are_shared() -> Result<()> {
    // /home belongs to user 33 in the image, and is closed to others.
    let writer = shell_as(
        "www",
        "writer",
        "[ -e /home/started ] && echo again with $($b cat /home/started); echo $($b id -u) > /home/started; \
         $b grep \" /home \" /proc/self/mountinfo; $b cp $b /home/new; $b chmod 4755 /home/new; $b mv /home/new /home/id; $b sync; exec $b sleep 1000",
        "volumes = [\"shared:/home\"]\n",
    );
    let reader = shell(
        "reader",
        "until [ -e /data/id ]; do $b sleep 1; done; echo read $($b cat /data/started); \
         echo owner $($b stat -c %u:%a /data); $b touch /data/x || echo may not write; exec $b sleep 1000",
        "volumes = [\"shared:/data:ro\"]\n",
    );
    // A setuid program that another unit has put there gives nobody its rights, and nobody makes a device there.
    let other = shell_as(
        "1000:33",
        "other",
        "until [ -e /data/id ]; do $b sleep 1; done; /data/id -u; exec $b sleep 1000",
        "volumes = [\"shared:/data\"]\n",
    );
    let node = shell(
        "node",
        "$b mknod /data/null c 1 3 || echo no nodes; exec $b sleep 1000",
        "volumes = [\"shared:/data\"]\ncapabilities = [\"default\", \"MKNOD\"]\n",
    );
    // What the machine config carries comes to whom it is meant for.
    let keeper = shell_as(
        "www",
        "keeper",
        "[ \"$($b cat /run/secrets/word)\" = \"$WORD\" ] && echo same word; echo $($b stat -c %u:%a /run/secrets/word); \
         echo $PLAIN $BOTH; $b sleep 1; exec $b sleep 1000",
        "env_file = [\"plain.env\", \"word.env\"]\nenv = { BOTH = \"unit\" }\n[units.keeper.secrets]\nword = \"word\"\n\
         [secrets]\nword = \"hunter2\"\n\"word.env\" = \"WORD=hunter2\"\n[files]\n\"plain.env\" = '''\nPLAIN=plain\nBOTH=file\n'''\n",
    );
    let mut guest = plan(&[writer, reader, other, node, keeper])?.boot()?;
    guest.ready()?;
    for unit in ["writer", "reader", "other", "node", "keeper"] {
        guest.healthy(unit)?;
    }
    says(&mut guest, "keeper", &["same word", "33:400", "plain unit"])?;
    let told = [
        format!("{:?}", guest.client()?.units()?),
        format!("{:?}", guest.client()?.unit("keeper")?),
        format!("{:?}", guest.client()?.config_status()?),
        guest.log("keeper")?.concat(),
        guest.log("berth")?.concat(),
        guest.running().console().lines().iter().map(|line| line.text.as_str()).collect(),
    ];
    assert!(!told.iter().any(|text| text.contains("hunter2")), "a secret is told: {told:?}");
    let log = guest.log("writer")?.join("\n");
    assert!(log.contains("nosuid,nodev"), "{log}");
    guest.said("reader", "may not write")?;
    says(&mut guest, "reader", &["read 33", "owner 33:750"])?;
    guest.said("other", "1000")?;
    guest.said("node", "no nodes")?;
    let mut guest = guest.cut_power()?.boot()?;
    guest.ready()?;
    guest.healthy("writer")?;
    says(&mut guest, "writer", &["again with 33"])?;

    // An operator's word is kept until the next one.
    guest.client()?.drive("writer", Drive::Stop)?;
    guest.until("writer", |state, _| state == "stopped")?;
    guest.client()?.drive("writer", Drive::Start)?;
    guest.until("writer", |state, _| state == "healthy")?;
    guest.client()?.drive("reader", Drive::Restart)?;
    guest.until("reader", |state, _| state == "healthy")?;
    assert_eq!(guest.client()?.unit("reader")?.exits.len(), 1);
    let refused = guest.client()?.drive("net", Drive::Stop).map(drop).unwrap_err().to_string();
    assert!(refused.contains("system unit"), "{refused}");
    Ok(())
}

#[test]
fn units_start_after_what_they_need_and_stop_before_it() -> Result<()> {
    // Ends at once, or after two seconds, when told to.
    let quick = "trap \"exit 0\" TERM; while :; do $b sleep 1000 & wait; done";
    let slow = "trap \"$b sleep 2; exit 0\" TERM; while :; do $b sleep 1000 & wait; done";
    // Neither their names nor their places in the file are in the order in which they start.
    let last = shell("a-last", slow, "[units.a-last.unit]\nafter = [\"b-middle\", \"nowhere\"]\n");
    let middle = shell("b-middle", slow, "[units.b-middle.unit]\nrequires = [\"c-first\"]\n");
    let first = shell("c-first", quick, "");
    let mut guest = plan(&[last, middle, first])?.boot()?;
    guest.ready()?;
    guest.healthy("a-last")?;

    let times = guest.client()?.boot_times()?;
    let span = |unit: &str| {
        let step = times.steps.iter().find(|step| step.name == format!("unit {unit}"));
        let step = step.with_context(|| format!("no start of {unit} in {:?}", times.steps))?;
        Ok::<_, anyhow::Error>((step.start_us, step.start_us + step.took_us))
    };
    let (last, middle, first) = (span("a-last")?, span("b-middle")?, span("c-first")?);
    assert!(first.1 <= middle.0 && middle.1 <= last.0, "{first:?}, {middle:?}, {last:?}");

    let console = guest.running().console().clone();
    guest.power_off()?;
    console.wait_event(0, "the end", SOON, |event| *event == Event::UnitsStopped)?;
    let lines = console.lines();
    let stopped: Vec<&str> =
        lines.iter().filter_map(|line| line.text.strip_suffix(" stopped")).map(str::trim).collect();
    // The store may end earlier: it runs only while it is needed.
    let order: Vec<&str> = stopped.into_iter().filter(|unit| !["meta", "store"].contains(unit)).collect();
    assert_eq!(order[..3], ["a-last", "b-middle", "c-first"], "{order:?}");
    assert!(order[3..].contains(&"api") && order[3..].contains(&"net"), "system units stop last: {order:?}");
    assert!(!lines.iter().any(|line| line.text.contains("did not stop in time")), "{}", console.tail());
    Ok(())
}

#[test]
fn units_find_each_other_by_name_while_they_serve() -> Result<()> {
    let asker = shell(
        "asker",
        "$b cat /etc/resolv.conf; \
         until $b wget -qO- http://server:8080/ 2>/dev/null | $b grep -q html; do $b sleep 1; done; echo found; \
         $b wget -qO- http://server.berth.internal:8080/ >/dev/null && echo by its long name; \
         a=$($b nslookup server.berth.internal | $b grep -o \"fd[0-9a-f:]*\" | $b head -n 1); \
         $b wget -qO- \"http://[$a]:8080/\" >/dev/null && echo by IPv6; $b nc server 81 </dev/null; \
         until $b wget -O- http://server:8080/ 2>&1 | $b grep -q \"bad address\"; do $b sleep 1; done; echo lost; \
         exec $b sleep 1000",
        "",
    );
    // Ends when somebody asks for it.
    let server = shell(
        "server",
        "$b httpd -p 8080 -h /srv; $b nc -l -p 81",
        "[units.server.restart]\npolicy = \"no\"\n",
    );
    let mut guest = plan(&[asker, server])?.boot()?;
    guest.ready()?;
    let end = Instant::now() + SOON;
    let log = loop {
        let log = guest.log("asker")?;
        if log.iter().any(|line| line == "lost") {
            break log;
        }
        anyhow::ensure!(Instant::now() < end, "{}", log.join("\n"));
        std::thread::sleep(Duration::from_millis(300));
    };
    for line in ["nameserver 10.88.0.1", "found", "by its long name", "by IPv6"] {
        assert!(log.iter().any(|l| l == line), "no {line:?} in {log:?}");
    }
    assert_eq!(guest.unit("asker")?.restarts, 0);
    Ok(())
}

#[test]
fn what_hangs_is_not_found_and_comes_back() -> Result<()> {
    // Whoever connects to port 81 stops the server, not its container.
    let web = shell(
        "web",
        "$b httpd -f -p 80 -h /srv & p=$!; $b nc -l -p 81 </dev/null; kill -STOP $p; echo hangs; wait",
        "stop_timeout = \"1s\"\n[units.web.unit]\ninstances = 3\n\
         [units.web.health]\nhttp = \"http://localhost/\"\ninterval = \"1s\"\ntimeout = \"6s\"\nretries = 2\n",
    );
    let count = "n() { $b nslookup web.berth.internal 2>/dev/null | $b grep -c \"Address: 10.88\"; };";
    let asker = shell(
        "asker",
        &format!(
            "{count} until [ $(n) = 3 ]; do :; done; echo three; $b nc web 81 </dev/null; \
             until [ $(n) = 2 ]; do :; done; echo two; until [ $(n) = 3 ]; do :; done; echo three again; \
             exec $b sleep 1000"
        ),
        "[units.asker.unit]\nrequires = [\"web:ready\", \"db:ready\", \"job:completed\"]\n",
    );
    let db = shell(
        "db",
        "$b sleep 1; exec $b httpd -f -p 5432 -h /srv",
        "[units.db.ready]\nport = 5432\n[units.db.unit]\nafter = [\"job:completed\"]\n",
    );
    let job = shell("job", "echo done", "[units.job.restart]\npolicy = \"on-failure\"\n");
    let late = shell(
        "late",
        "exec $b sleep 1000",
        "stop_timeout = \"1s\"\n[units.late.ready]\nport = 9\ntimeout = \"8s\"\n[units.late.restart]\npolicy = \"no\"\n",
    );
    // Well for two looks, then bad for four.
    let look = "n=$(/bin/busybox cat /n 2>/dev/null); n=$((n + 1)); echo $n >/n; echo looking; \
                [ $n -le 2 ] || [ $n -gt 6 ] || { echo feeling bad; exit 1; }";
    let moody = shell(
        "moody",
        "exec $b sleep 1000",
        &format!(
            "[units.moody.health]\ncommand = [\"/bin/sh\", \"-c\", \"{look}\"]\ninterval = \"300ms\"\n\
             timeout = \"20s\"\nretries = 2\non_failure = \"none\"\n"
        ),
    );
    let mut guest = plan(&[web, asker, db, job, late, moody])?.boot()?;
    guest.ready()?;
    guest.wait_for("moody    unhealthy: feeling bad")?;
    guest.until("late", |state, reason| {
        state == "failed" && reason.contains("not ready after 8s: tcp:localhost:9: nobody listens there")
    })?;
    guest.until("moody", |state, reason| state == "healthy" && reason.is_empty())?;
    assert_eq!(guest.unit("moody")?.restarts, 0);
    for line in ["three", "two", "three again"] {
        guest.said("asker", line)?;
    }
    guest.until("job", |state, _| state == "finished")?;
    guest.healthy("db")?;
    let sick =
        "sick: unhealthy (2 checks in a row failed: http://localhost:80/ gave no answer within 6000 ms)";
    guest.wait_for(sick)?;
    let restarts: Vec<u32> =
        (1..=3).map(|n| Ok(guest.unit(&format!("web.{n}"))?.restarts)).collect::<Result<_>>()?;
    assert_eq!(restarts.iter().sum::<u32>(), 1, "one was restarted: {restarts:?}");
    Ok(())
}

#[test]
fn operators_run_commands_in_units() -> Result<()> {
    let more = "env = { GREETING = \"hello\" }\nworkdir = \"/srv\"\nvolumes = [\"kept:/kept\"]\n";
    let mut guest = plan(&[shell("web", "exec $b sleep 1000", more)])?.boot()?;
    guest.ready()?;
    guest.healthy("web")?;
    let client = guest.client()?;
    let run = |line: &str, terminal: bool| {
        let command = ["/bin/sh", "-c", &format!("b=/bin/busybox; {line}")].map(str::to_owned).into();
        let request = ExecRequest { unit: "web".into(), command, terminal, ..ExecRequest::default() };
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let streams = Streams { input: false, output: &mut output, errors: &mut errors, begins: &mut || () };
        let outcome = client.exec(&request, streams)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok::<_, anyhow::Error>((outcome, text(&output), text(&errors)))
    };
    let (outcome, output, errors) =
        run("echo $GREETING from $($b id -u) in $($b pwd); echo oops >&2; $b cat; exit 7", false)?;
    assert_eq!((outcome, errors.as_str()), (Outcome::Exited(7), "oops\n"));
    assert_eq!(output, "hello from 0 in /srv\n");
    let (_, output, _) = run(
        "$b grep -E \"NoNewPrivs|Seccomp:\" /proc/self/status; $b mknod /n c 1 3 || echo no nodes",
        false,
    )?;
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "no nodes"] {
        assert!(output.contains(line), "no {line:?} in {output:?}");
    }
    let (outcome, output, _) = run("[ -t 0 ] && [ -t 1 ] && echo a terminal; kill -9 $$", true)?;
    assert_eq!((outcome, output.as_str()), (Outcome::Exited(137), "a terminal\r\n"));
    // What it leaves behind ends with it.
    let (outcome, output, _) = run("$b sleep 1000 & echo begun", false)?;
    assert_eq!((outcome, output.as_str()), (Outcome::Exited(0), "begun\n"));
    // A unit without an init of its own leaves the dead unburied; they have no command line.
    let count = "for p in /proc/[0-9]*; do $b grep -q ^/bin/busybox.sleep $p/cmdline && n=x$n; done; echo $n";
    let (_, output, _) = run(count, false)?;
    assert_eq!(output, "x\n", "the unit's own program, and no other");
    let request =
        ExecRequest { unit: "web".into(), command: vec!["/bin/absent".into()], ..ExecRequest::default() };
    let streams =
        Streams { input: false, output: &mut Vec::new(), errors: &mut Vec::new(), begins: &mut || () };
    let Outcome::Failed(why) = client.exec(&request, streams)? else { panic!("ran") };
    assert!(why.contains("/bin/absent"), "{why}");
    copies::copies(&client, &|line| Ok(run(line, false)?.1))?;
    let request =
        ExecRequest { unit: "net".into(), command: vec!["/bin/sh".into()], ..ExecRequest::default() };
    let streams =
        Streams { input: false, output: &mut Vec::new(), errors: &mut Vec::new(), begins: &mut || () };
    let why = client.exec(&request, streams).unwrap_err().to_string();
    assert!(why.contains("system unit"), "{why}");
    assert_eq!(guest.unit("web")?.restarts, 0);
    // It is in no container then.
    client.drive("web", Drive::Stop)?;
    guest.until("web", |state, _| state == "stopped")?;
    let from = InUnit { unit: "web", path: "/srv" };
    let why = client.copy_out(from, false, Path::new("."), &mut |_| ()).unwrap_err().to_string();
    for word in ["web does not run", "\"berth start web\"", "its volumes (kept)"] {
        assert!(why.contains(word), "{why}");
    }
    Ok(())
}

/// What is in no config: run to its end, in the background, over a reboot.
#[test]
fn a_unit_is_run_without_a_config_and_gone_at_the_next_boot() -> Result<()> {
    let mut guest = plan(&[shell("web", "exec $b sleep 1000", "")])?.boot()?;
    guest.ready()?;
    guest.healthy("web")?;
    let file = |line: &str| {
        format!(
            "[container]\nimage = \"berth.example/web:1\"\nuser = \"root\"\n\
             command = [\"/bin/sh\", \"-c\", \"{line}\"]\nvolumes = [\"kept:/kept\"]\n[restart]\npolicy = \"no\"\n"
        )
    };
    let client = guest.client()?;
    let unit = client.run(None, file("echo left > /left; echo kept > /kept/file; echo hello; exit 7"))?.unit;
    assert_eq!(unit, "run-1");
    // The log ends with the unit.
    let options = LogOptions { follow: true, until_end: true, tail: None };
    let lines = client.logs(&unit, options)?.map(|line| Ok(line?.text)).collect::<Result<Vec<_>>>()?;
    assert_eq!(lines, ["hello"]);
    let ended = client.unit(&unit)?;
    assert_eq!((ended.status.state.as_str(), ended.exit_code, ended.transient), ("failed", Some(7), true));
    client.remove(&unit, false)?;
    guest.wait_for("run-1    removed")?;
    // Another one of this name has nothing of it.
    let look = file(
        "[ -e /left ] || echo nothing left $(/bin/busybox cat /kept/file); exec /bin/busybox sleep 1000",
    );
    let end = Instant::now() + SOON;
    while let Err(why) = guest.client()?.run(Some("run-1"), look.clone()) {
        anyhow::ensure!(Instant::now() < end, "the name is never free again: {why}");
    }
    guest.said("run-1", "nothing left kept")?;
    assert!(guest.client()?.remove("run-1", false).is_err(), "it runs");
    let volume = guest.client()?.volume("kept")?.remove(0);
    assert!(volume.whole && volume.bytes.is_some_and(|bytes| bytes > 0), "{volume:?}");
    assert_eq!(volume.used_by, ["run-1"]);
    let why = guest.client()?.remove_volume("kept").map(drop).unwrap_err().to_string();
    assert!(why.contains("used by run-1"), "{why}");
    guest.client()?.remove("run-1", true)?;
    guest.wait_for("run-1    removed")?;
    guest.client()?.remove_volume("kept")?;
    assert_eq!(guest.client()?.volumes()?, []);
    let why = guest.client()?.remove_volume("kept").map(drop).unwrap_err().to_string();
    assert!(why.contains("there is no volume"), "{why}");
    let again = guest.client()?.run(None, file("exec /bin/busybox sleep 1000"))?.unit;
    guest.until(&again, |state, _| state == "healthy")?;
    guest.client()?.reboot()?;
    guest.rebooted();
    guest.ready()?;
    guest.healthy("web")?;
    assert!(guest.unit(&again).is_err());
    Ok(())
}

#[test]
fn another_config_is_put_in_force_without_a_reboot_and_can_go_back() -> Result<()> {
    let sleeper = |name: &str| shell(name, "exec $b sleep 1000", "");
    let web = |word: &str| {
        shell("web", "echo $GREETING; exec $b sleep 1000", &format!("env = {{ GREETING = \"{word}\" }}\n"))
    };
    let mut guest = plan(&[web("one"), sleeper("db"), sleeper("old")])?.boot()?;
    guest.ready()?;
    guest.healthy("db")?;
    let db = guest.unit("db")?.pid;
    let second = berth_tests::config(
        &[web("two"), sleeper("db"), sleeper("new"), "[secrets]\nword = \"geheim\"\n".to_owned()].concat(),
    )?
    .into_bytes();
    let change = guest.client()?.config_change(second.clone(), None, true)?;
    assert_eq!((change.added, change.removed), (vec!["new".to_owned()], vec!["old".to_owned()]));
    assert_eq!((change.changed.len(), change.changed[0].unit.as_str()), (1, "web"));
    assert!(guest.unit("old").is_ok(), "a look changes nothing");

    guest.client()?.config_change(second, None, false)?;
    guest.wait_for("old      is not in the config any more")?;
    guest.healthy("new")?;
    guest.said("web", "two")?;
    guest.until("web", |state, _| state == "healthy")?;
    assert_eq!(guest.unit("db")?.pid, db, "what is the same goes on running");
    assert!(guest.unit("old").is_err());

    let mistaken = berth_tests::config("[units.web.container]\nimge = \"x\"\n")?.into_bytes();
    let why = guest.client()?.config_change(mistaken, None, false).unwrap_err().to_string();
    assert!(why.contains("unknown field \"imge\"") && why.contains("berth.toml:"), "{why}");

    // Nobody confirms this one.
    let third = berth_tests::config(&sleeper("db"))?.into_bytes();
    guest.client()?.config_change(third, Some(Duration::from_secs(30)), false)?;
    guest.wait_for("web      is not in the config any more")?;
    guest.wait_for("config   not confirmed in time: the one before is put back")?;
    guest.until("web", |state, _| state == "healthy")?;
    assert_eq!(guest.unit("db")?.pid, db);

    let history = guest.client()?.history()?;
    let lines: Vec<(u64, Verdict, &str)> =
        history.generations.iter().map(|g| (g.number, g.state, g.reason.as_str())).collect();
    assert_eq!(
        lines,
        [
            (1, Verdict::Superseded, ""),
            (2, Verdict::Committed, ""),
            (3, Verdict::Reverted, "it was not confirmed in time")
        ]
    );
    assert_eq!(history.in_force, Some(2));

    // One unit of it, and back.
    let file = "[container]\nimage = \"berth.example/web:1\"\ncommand = [\"/bin/sh\", \"-c\", \"echo three; exec \
                /bin/busybox sleep 1000\"]\n";
    let edit = Edit { units: [("web".to_owned(), file.to_owned())].into(), ..Edit::default() };
    let change = guest.client()?.units_change(&edit, None, true)?;
    assert_eq!((change.added.len(), change.removed.len(), change.changed[0].unit.as_str()), (0, 0, "web"));
    guest.client()?.units_change(&edit, None, false)?;
    guest.said("web", "three")?;
    guest.until("web", |state, _| state == "healthy")?;
    let shown = guest.client()?.config_text()?;
    assert!(shown.contains("echo three") && shown.contains("[units.db.container]"), "{shown}");
    assert!(shown.contains("word = \"(not shown)\"") && !shown.contains("geheim"), "{shown}");
    let bundle = Bundle::gather(&guest.client()?)?;
    for (name, bytes) in bundle.files() {
        assert!(!name.ends_with(".missing"), "{name}: {}", String::from_utf8_lossy(bytes));
        assert!(!String::from_utf8_lossy(bytes).contains("geheim"), "{name} has a secret");
    }
    assert!(bundle.files().any(|(name, bytes)| name == "logs/web.txt" && bytes.ends_with(b"three\n")));
    let kernel = guest.log("kernel")?;
    assert!(kernel.iter().any(|line| line.starts_with("Linux version 6.12")), "{kernel:?}");
    let change = guest.client()?.roll_back(None, None, false)?;
    assert_eq!((change.changed.len(), change.changed[0].unit.as_str()), (1, "web"));
    guest.wait_for("config   back to generation 2")?;
    guest.wait_for("config   applied from operator")?;
    guest.until("web", |state, _| state == "healthy")?;
    assert_eq!(guest.unit("db")?.pid, db);
    let history = guest.client()?.history()?;
    assert_eq!((history.in_force, history.generations[4].why.as_str()), (Some(5), "back to generation 2"));

    // `berth stop --disable`: a change of the unit.
    let put = |guest: &mut Guest, enabled| -> Result<()> {
        let enable = Edit { enable: [("web".to_owned(), enabled)].into(), ..Edit::default() };
        let change = guest.client()?.units_change(&enable, None, false)?;
        assert_eq!((change.changed[0].unit.as_str(), change.changed[0].restarts), ("web", false));
        Ok(())
    };
    put(&mut guest, false)?;
    guest.until("web", |state, reason| (state, reason) == ("stopped", "not enabled"))?;
    let history = guest.client()?.history()?;

    // What was put in force stays, whatever the source says at the next boot.
    guest.client()?.reboot()?;
    guest.rebooted();
    guest.ready()?;
    guest.healthy("new")?;
    assert!(guest.unit("old").is_err());
    assert_eq!(guest.client()?.history()?, history);
    assert_eq!(guest.unit("web")?.state, "stopped");
    put(&mut guest, true)?;
    guest.until("web", |state, _| state == "healthy")?;
    Ok(())
}
