//! Lives told event by event: pauses, limits, and what comes in an order that is not the usual one.

use super::{Effect, Event, Exit, Life, Proof, State};
use crate::limits;
use crate::model::{Restart, RestartPolicy};
use std::time::Duration;

/// Runs a unit up to its first process.
fn run(life: &mut Life, policy: &Restart, now: Duration) {
    for event in [Event::Start, Event::DepsReady, Event::ImageReady, Event::Started] {
        life.step(policy, event, now);
    }
    assert_eq!(life.state, State::Running);
}

fn end(life: &mut Life, policy: &Restart, exit: Exit, now: Duration) -> Vec<Effect> {
    life.step(policy, Event::Exited(exit), now);
    life.step(policy, Event::CgroupEmpty, now)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The pauses of a unit that crashes at once.
fn pauses(policy: &Restart, n: usize) -> Vec<u64> {
    let mut life = Life::new(Proof::Told);
    let mut now = Duration::ZERO;
    life.step(policy, Event::Start, now);
    let mut pauses = Vec::new();
    for _ in 0..n {
        run(&mut life, policy, now);
        end(&mut life, policy, Exit::Code(1), now);
        let Some(at) = life.deadline else { break };
        pauses.push(u64::try_from((at - now).as_millis()).unwrap());
        now = at;
        life.step(policy, Event::Timer, now);
    }
    pauses
}

#[test]
fn pauses_double_up_to_the_longest() {
    let policy = Restart { limit: 0, max_delay: secs(5), ..Restart::default() };
    assert_eq!(pauses(&policy, 7), [500, 1000, 2000, 4000, 5000, 5000, 5000]);
    let never_none = Restart { limit: 0, delay: Duration::ZERO, max_delay: Duration::ZERO, ..policy };
    assert_eq!(pauses(&never_none, 3), [100, 100, 100]);
}

#[test]
fn the_limit_ends_in_failed_and_start_gets_out() {
    let policy = Restart { limit: 3, interval: secs(600), ..Restart::default() };
    assert_eq!(pauses(&policy, 10).len(), 3);
    let mut life = Life::new(Proof::Told);
    for n in 0..4 {
        run(&mut life, &policy, secs(n * 10));
        end(&mut life, &policy, Exit::Signal(11), secs(n * 10));
        life.step(&policy, Event::Timer, secs(n * 10 + 9));
    }
    assert_eq!(life.state, State::Failed);
    assert_eq!(
        life.reason(secs(50)),
        "killed by signal 11; not restarted after 3 restarts, see [restart] limit"
    );
    life.step(&policy, Event::Start, secs(50));
    assert_eq!((life.state, life.restarts), (State::Waiting, 0));
    // From there on it counts anew.
    run(&mut life, &policy, secs(50));
    end(&mut life, &policy, Exit::Code(1), secs(50));
    assert_eq!(life.state, State::Backoff);
}

#[test]
fn a_long_run_makes_the_pause_short_again() {
    let policy = Restart { limit: 0, delay: secs(1), max_delay: secs(8), ..Restart::default() };
    let mut life = Life::new(Proof::Told);
    let mut now = secs(0);
    for (lasts, pause) in [(0, 1), (7, 2), (7, 4), (8, 1), (0, 2)] {
        run(&mut life, &policy, now);
        now += secs(lasts);
        end(&mut life, &policy, Exit::Code(0), now);
        assert_eq!(life.deadline, Some(now + secs(pause)), "after a run of {lasts} s");
        assert_eq!(life.reason(now), format!("exit code 0, restart {} in {pause} s", life.restarts + 1));
        now += secs(pause);
        life.step(&policy, Event::Timer, now);
    }
}

#[test]
fn a_program_that_is_done_is_finished() {
    for (policy, exit, state) in [
        (RestartPolicy::No, Exit::Code(0), State::Finished),
        (RestartPolicy::No, Exit::Code(1), State::Failed),
        (RestartPolicy::OnFailure, Exit::Code(0), State::Finished),
        (RestartPolicy::OnFailure, Exit::Signal(9), State::Backoff),
        (RestartPolicy::Always, Exit::Code(0), State::Backoff),
    ] {
        let policy = Restart { policy, ..Restart::default() };
        let mut life = Life::new(Proof::Told);
        run(&mut life, &policy, secs(1));
        let effects = end(&mut life, &policy, exit, secs(2));
        assert_eq!(life.state, state);
        assert_eq!(effects.first(), Some(&Effect::Cleanup));
    }
}

#[test]
fn an_empty_cgroup_may_come_before_the_exit_status() {
    let policy = Restart { policy: RestartPolicy::OnFailure, ..Restart::default() };
    let mut life = Life::new(Proof::Told);
    run(&mut life, &policy, secs(1));
    life.step(&policy, Event::CgroupEmpty, secs(2));
    assert_eq!(life.state, State::Killing);
    life.step(&policy, Event::Exited(Exit::Code(0)), secs(2));
    assert_eq!(life.state, State::Finished);
    // A program so short that PID 1 sees its end before its beginning.
    let mut life = Life::new(Proof::Told);
    for event in [Event::Start, Event::DepsReady, Event::ImageReady, Event::CgroupEmpty, Event::Started] {
        life.step(&policy, event, secs(1));
    }
    life.step(&policy, Event::Exited(Exit::Code(0)), secs(1));
    assert_eq!(life.state, State::Finished);
}

#[test]
fn a_lost_exit_status_is_a_failure() {
    let policy = Restart { policy: RestartPolicy::OnFailure, ..Restart::default() };
    let mut life = Life::new(Proof::Told);
    run(&mut life, &policy, secs(1));
    life.step(&policy, Event::CgroupEmpty, secs(2));
    life.step(&policy, Event::Timer, secs(2) + limits::KILL_AGAIN);
    assert_eq!(life.state, State::Backoff);
}

#[test]
fn what_the_main_process_leaves_behind_is_killed_until_it_is_gone() {
    let policy = Restart::default();
    let mut life = Life::new(Proof::Told);
    run(&mut life, &policy, secs(1));
    let effects = life.step(&policy, Event::Exited(Exit::Code(0)), secs(2));
    assert_eq!(effects, [Effect::KillCgroup, Effect::ArmTimer(limits::KILL_AGAIN), Effect::Changed]);
    let effects = life.step(&policy, Event::Timer, secs(2) + limits::KILL_AGAIN);
    assert_eq!(effects, [Effect::KillCgroup, Effect::ArmTimer(limits::KILL_AGAIN)]);
}

#[test]
fn stop_then_start_is_a_clean_restart() {
    let policy = Restart::default();
    let mut life = Life::new(Proof::Told);
    run(&mut life, &policy, secs(1));
    assert_eq!(life.step(&policy, Event::Stop, secs(2))[0], Effect::SendStop);
    assert_eq!(life.step(&policy, Event::Start, secs(2)), []);
    assert_eq!(life.state, State::Stopping);
    let effects = end(&mut life, &policy, Exit::Signal(15), secs(3));
    assert_eq!(effects, [Effect::Cleanup, Effect::CancelTimer, Effect::Changed]);
    assert_eq!(life.state, State::Waiting);
    // And stopped once more, it stays stopped.
    life.step(&policy, Event::Stop, secs(3));
    assert_eq!(life.state, State::Stopped);
}

#[test]
fn a_stop_that_is_not_heard_is_followed_by_a_kill() {
    let policy = Restart::default();
    let mut life = Life::new(Proof::Told);
    run(&mut life, &policy, secs(1));
    let effects = life.step(&policy, Event::Stop, secs(2));
    assert_eq!(effects, [Effect::SendStop, Effect::ArmTimer(secs(10)), Effect::Changed]);
    let effects = life.step(&policy, Event::Timer, secs(11));
    assert_eq!(effects, [Effect::ArmTimer(secs(1))], "too early");
    let effects = life.step(&policy, Event::Timer, secs(12));
    assert_eq!(effects[0], Effect::KillCgroup);
    life.step(&policy, Event::CgroupEmpty, secs(12));
    assert_eq!(life.state, State::Killing, "how it ended is not known yet");
    life.step(&policy, Event::Exited(Exit::Signal(9)), secs(12));
    assert_eq!(life.state, State::Stopped);
}

#[test]
fn a_start_that_is_given_up_has_no_exit_to_wait_for() {
    let policy = Restart::default();
    let mut life = Life::new(Proof::Told);
    for event in [Event::Start, Event::DepsReady, Event::ImageReady, Event::Stop] {
        life.step(&policy, event, secs(1));
    }
    assert_eq!(life.state, State::Killing);
    life.step(&policy, Event::CgroupEmpty, secs(1));
    assert_eq!(life.state, State::Stopped);
}

#[test]
fn nothing_is_left_of_the_run_before() {
    let policy = Restart { policy: RestartPolicy::OnFailure, ..Restart::default() };
    let mut life = Life::new(Proof::Told);
    run(&mut life, &policy, secs(1));
    end(&mut life, &policy, Exit::Code(7), secs(1));
    assert_eq!(life.last_exit, Some(Exit::Code(7)));
    life.step(&policy, Event::Timer, secs(2));
    for event in [Event::DepsReady, Event::ImageReady] {
        life.step(&policy, event, secs(2));
    }
    assert_eq!(life.last_exit, None);
    life.step(&policy, Event::StartFailed, secs(2));
    life.step(&policy, Event::CgroupEmpty, secs(2));
    assert_eq!(life.state, State::Backoff);
    assert_eq!(life.reason(secs(2)), "start failed, restart 2 in 1 s");
    life.step(&policy, Event::Timer, secs(3));
    run(&mut life, &policy, secs(3));
    life.step(&policy, Event::CgroupEmpty, secs(4));
    assert_eq!(life.state, State::Killing, "this run's exit, not the last one's");
}

#[test]
fn a_unit_without_what_it_needs() {
    let policy = Restart::default();
    let mut life = Life::new(Proof::Told);
    life.step(&policy, Event::Start, secs(1));
    life.step(&policy, Event::DepsFailed, secs(1));
    assert_eq!((life.state, life.reason(secs(1))), (State::Failed, "a required unit failed".into()));
    life.step(&policy, Event::Start, secs(1));
    life.step(&policy, Event::DepsReady, secs(1));
    life.step(&policy, Event::ImageFailed, secs(1));
    assert_eq!(
        (life.state, life.reason(secs(1))),
        (State::Backoff, "image not available, next try in 1 s".into())
    );
    // It is tried for ever, ever more slowly, whatever the policy: nothing has run that could be restarted too often.
    let policy = Restart { policy: RestartPolicy::No, limit: 1, ..policy };
    for _ in 0..50 {
        let next = life.deadline().unwrap();
        life.step(&policy, Event::Timer, next);
        life.step(&policy, Event::DepsReady, next);
        life.step(&policy, Event::ImageFailed, next);
        assert_eq!((life.state, life.restarts), (State::Backoff, 0));
        assert!(life.deadline().unwrap() - next <= policy.max_delay);
    }
}

#[test]
fn what_fails_its_checks_is_stopped_and_restarted_as_a_failure() {
    let policy = Restart { policy: RestartPolicy::OnFailure, ..Restart::default() };
    for healthy_first in [false, true] {
        let mut life = Life::new(Proof::Shown { tolerant: false });
        run(&mut life, &policy, secs(1));
        assert_eq!(life.deadline, None, "time alone shows nothing");
        if healthy_first {
            life.step(&policy, Event::BecameHealthy, secs(2));
            assert_eq!(life.state, State::Healthy);
        }
        let effects = life.step(&policy, Event::BecameUnhealthy, secs(9));
        assert_eq!((life.state, effects[0]), (State::Stopping, Effect::SendStop));
        assert_eq!(life.reason(secs(9)), "unhealthy");
        // That it obeys is no success.
        end(&mut life, &policy, Exit::Code(0), secs(10));
        assert_eq!(life.state, State::Backoff);
        assert_eq!(life.reason(secs(10)), "unhealthy, restart 1 in 1 s");
        life.step(&policy, Event::Timer, secs(11));
        run(&mut life, &policy, secs(11));
        assert_eq!(life.reason(secs(11)), "");
    }
}

#[test]
fn what_is_stopped_for_its_checks_can_be_stopped_by_an_operator() {
    let policy = Restart::default();
    let mut life = Life::new(Proof::Shown { tolerant: false });
    run(&mut life, &policy, secs(1));
    life.step(&policy, Event::BecameUnhealthy, secs(9));
    life.step(&policy, Event::Stop, secs(9));
    end(&mut life, &policy, Exit::Signal(15), secs(10));
    assert_eq!((life.state, life.reason(secs(10))), (State::Stopped, String::new()));
}

#[test]
fn what_is_left_alone_can_become_healthy_again() {
    let policy = Restart::default();
    let mut life = Life::new(Proof::Shown { tolerant: true });
    run(&mut life, &policy, secs(1));
    for state in [State::Unhealthy, State::Healthy, State::Unhealthy] {
        let event = if state == State::Healthy { Event::BecameHealthy } else { Event::BecameUnhealthy };
        life.step(&policy, event, secs(2));
        assert_eq!((life.state, life.restarts), (state, 0));
        assert!(life.state.is_up() && life.state.has_run());
    }
    // How it ended is told, not how it felt.
    end(&mut life, &policy, Exit::Code(3), secs(5));
    assert_eq!(life.reason(secs(5)), "exit code 3, restart 1 in 1 s");
}

#[test]
fn workers_and_units_without_a_check_are_not_made_unhealthy() {
    let policy = Restart::default();
    for proof in [Proof::Told, Proof::Settled(secs(2))] {
        let mut life = Life::new(proof);
        run(&mut life, &policy, secs(1));
        life.step(&policy, Event::BecameUnhealthy, secs(1));
        assert_eq!(life.state, State::Running);
    }
}
