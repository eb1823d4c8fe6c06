//! Units in no config.

use super::*;

fn run(machine: &mut Machine, name: Option<&str>, text: &str) -> Result<String, String> {
    let text = Some(text.as_bytes().to_vec());
    let reply = machine.supervisor.run_unit(name, text, machine.now, &mut machine.k);
    machine.settle();
    match reply {
        Reply::Name(name) => Ok(name),
        Reply::Error { message, .. } => Err(message),
        other => panic!("{other:?}"),
    }
}

fn remove(machine: &mut Machine, unit: &str, force: bool) -> Option<String> {
    let request = Request::Remove { unit: unit.into(), force };
    let reply = machine.supervisor.ask(&request, machine.now, &mut machine.k);
    machine.settle();
    match reply {
        Some(Reply::Done) => None,
        Some(Reply::Error { message, .. }) => Some(message),
        other => panic!("{other:?}"),
    }
}

fn machine() -> Machine {
    Machine::boot("web\ndb").healthy(5)
}

const ONCE: &str =
    "container.image = \"example.org/web:1\"\nnetwork.mode = \"host\"\nrestart.policy = \"no\"\n";

#[test]
fn it_runs_to_its_end_and_is_removed() {
    let mut machine = machine();
    assert_eq!(run(&mut machine, None, ONCE).unwrap(), "run-1");
    assert_eq!(run(&mut machine, None, ONCE).unwrap(), "run-2");
    assert!(machine.state("run-1").is_up() && machine.state("run-2").is_up());
    assert!(machine.said("run-1    run by an operator (image example.org/web:1)"));
    machine.exit("run-1", Exit::Code(3));
    let Some(Reply::Unit(detail)) =
        machine.supervisor.ask(&Request::Inspect { unit: "run-1".into() }, machine.now, &mut machine.k)
    else {
        panic!()
    };
    assert_eq!((detail.status.state.as_str(), detail.exit_code, detail.transient), ("failed", Some(3), true));
    assert_eq!(remove(&mut machine, "run-1", false), None);
    assert_eq!(machine.called("forget run-1 and all of it"), 1);
    assert!(remove(&mut machine, "run-2", false).unwrap().contains("stop it first"));
    assert_eq!(remove(&mut machine, "run-2", true), None);
    machine.seconds(1);
    assert!(!machine.supervisor.has("run-2"));
    // The names are free again.
    assert_eq!(run(&mut machine, None, ONCE).unwrap(), "run-1");
    assert!(remove(&mut machine, "web", true).unwrap().contains("berth unit rm web"));
    assert!(remove(&mut machine, NET, true).unwrap().contains("system unit"));
    assert!(remove(&mut machine, "absent", true).unwrap().contains("there is no unit"));
}

#[test]
fn a_config_leaves_it_alone() {
    let mut machine = machine();
    run(&mut machine, Some("job"), ONCE).unwrap();
    let apply = |machine: &mut Machine, text: &str| {
        let text = Some(text.as_bytes().to_vec());
        let reply = machine.supervisor.apply_config(text, Trial::default(), machine.now, &mut machine.k);
        machine.settle();
        reply
    };
    let Reply::ConfigChange(change) = apply(&mut machine, "web") else { panic!() };
    assert_eq!((change.added.len(), change.removed), (0, vec!["db".to_owned()]));
    machine.seconds(5);
    assert!(machine.state("job").is_up());
    let Reply::Error { message, .. } = apply(&mut machine, "web\njob") else { panic!() };
    assert!(message.contains("a transient unit is called job"), "{message}");
    // It is stopped like any other.
    machine.halt(Halt::Reboot);
    assert_eq!(machine.called("signal job"), 1);
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let mut machine = machine();
    for (name, text, why) in [
        (Some("web"), ONCE, "there is a unit \"web\" already"),
        (Some("net"), ONCE, "there is a unit \"net\" already"),
        (None, "container.imge = \"x\"", "unknown field \"imge\""),
        (None, "container.image = \"x\"\nunit.requires = [\"absent\"]", "absent"),
        (None, "container.image = \"x\"\nunit.instances = 2", "one instance"),
        (None, "container.image = \"x\"\ncontainer.env_file = \"a.env\"", "berth unit apply"),
        (None, "container.image = \"x\"\nnetwork.ports = [\"7443:80\"]", "7443"),
    ] {
        let said = run(&mut machine, name, text).unwrap_err();
        assert!(said.contains(why), "{text}: {said}");
    }
    let mut rescue = Machine::new(Facts { rescue: Some("worn".into()), ..facts() });
    rescue.begin(Some("web"));
    assert!(run(&mut rescue, None, ONCE).unwrap_err().contains("rescue"));
}

#[test]
fn what_may_come_back_keeps_its_name_and_its_volumes() {
    let mut machine = machine();
    let reply = super::apply::send(&mut machine, "web", Some(300), false);
    assert!(matches!(reply, Reply::ConfigChange(_)));
    machine.seconds(5);
    assert!(!machine.supervisor.has("db"), "it is gone, for now");
    assert!(run(&mut machine, Some("db"), ONCE).unwrap_err().contains("there is a unit \"db\" already"));
    machine.seconds(300);
    assert!(machine.supervisor.has("db"));
}
