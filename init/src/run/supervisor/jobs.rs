//! What operators have done with images: pull, remove, prune. Each is a job with a number, which is told as it goes on
//! and for a while after its end.

use super::Supervisor;
use super::status::refuse;
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::{ImageOrder, JobStatus, Reply, Sweep};
use std::collections::VecDeque;
use std::time::Duration;

/// Oldest first.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    all: VecDeque<JobStatus>,
    last: u64,
}

impl Jobs {
    fn begin(&mut self, order: ImageOrder, state: &str) -> u64 {
        if self.all.len() >= limits::JOBS
            && let Some(oldest) = self.all.iter().position(JobStatus::is_over)
        {
            self.all.remove(oldest);
        }
        self.last += 1;
        let (state, message) = (state.to_owned(), String::new());
        self.all.push_back(JobStatus { id: self.last, order, state, done: 0, total: None, message });
        self.last
    }

    fn pull(&mut self, reference: &str) -> Option<&mut JobStatus> {
        let is_it =
            |job: &&mut JobStatus| !job.is_over() && job.order == ImageOrder::Pull(reference.to_owned());
        self.all.iter_mut().find(is_it)
    }

    /// The image is to be made out of what the fetcher has.
    pub(super) fn unpacks(&self, reference: &str) -> bool {
        self.all.iter().any(|job| {
            job.state == "unpacking" && matches!(&job.order, ImageOrder::Pull(image) if image == reference)
        })
    }

    /// The fetcher has it all; whether it is a job's.
    pub(super) fn pulled(&mut self, reference: &str) -> bool {
        let job = self.pull(reference);
        job.map(|job| job.state = "unpacking".into()).is_some()
    }

    /// More has come.
    pub(super) fn progress(&mut self, reference: &str, done: u64, total: Option<u64>) {
        if let Some(job) = self.pull(reference).filter(|job| job.state == "pulling") {
            (job.done, job.total) = (done, total);
        }
    }

    /// The image is there, or will not be.
    pub(super) fn end_pull(&mut self, reference: &str, result: Result<(), &str>) {
        if let Some(job) = self.pull(reference) {
            end(job, result.map(|()| String::new()));
        }
    }

    /// A sweep's turn.
    pub(super) fn begin_sweep(&mut self, id: u64) {
        if let Some(job) = self.all.iter_mut().find(|job| job.id == id) {
            job.state = "removing".into();
        }
    }

    /// A sweep has ended.
    pub(super) fn end_sweep(&mut self, id: u64, result: Result<String, &str>) {
        if let Some(job) = self.all.iter_mut().find(|job| job.id == id) {
            end(job, result);
        }
    }
}

fn end(job: &mut JobStatus, result: Result<String, &str>) {
    let (state, message) = match result {
        Ok(message) => ("done", message),
        Err(why) => ("failed", text::bounded(why, limits::TEXT_BYTES)),
    };
    (job.state, job.message) = (state.into(), message);
}

impl Supervisor {
    pub(super) fn order_image(&mut self, order: &ImageOrder, now: Duration, k: &mut dyn Kernel) -> Reply {
        if let ImageOrder::Pull(image) | ImageOrder::Remove(image) = order
            && (image.is_empty()
                || image.len() > berth_units::limits::REFERENCE_BYTES
                || !image.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return refuse("bad-request", "this is no image's name");
        }
        if self.is_stopping() {
            return refuse("busy", "the machine is going down");
        }
        if self.jobs.all.iter().filter(|job| !job.is_over()).count() >= limits::JOBS_AT_ONCE {
            let at_once = limits::JOBS_AT_ONCE;
            return refuse("busy", format!("{at_once} others are under way; try again later"));
        }
        let sweep = match order {
            ImageOrder::Pull(image) => {
                if let Some(job) = self.jobs.pull(image) {
                    return Reply::Job(job.id);
                }
                if !self.fetch_for_operator(image, now, k) {
                    return refuse("failed", "this system has no fetcher (unit \"fetch\")");
                }
                k.say(console::ordered(order));
                let id = self.jobs.begin(order.clone(), "pulling");
                self.run_events(now, k);
                return Reply::Job(id);
            }
            ImageOrder::Remove(image) => Sweep::One(image.clone()),
            ImageOrder::Prune => Sweep::All,
        };
        if let Some(why) = self.never_sweeps() {
            return refuse("failed", why);
        }
        k.say(console::ordered(order));
        let id = self.jobs.begin(order.clone(), "waiting");
        self.queue_sweep(sweep, id);
        self.run_events(now, k);
        Reply::Job(id)
    }

    pub(super) fn job_list(&self) -> Reply {
        let mut list: Vec<JobStatus> = self.jobs.all.iter().cloned().collect();
        for job in list.iter_mut().filter(|job| job.state == "pulling") {
            if let ImageOrder::Pull(image) = &job.order
                && let Some(sentence) = self.fetching.sentence(image, !self.addresses.is_empty())
            {
                job.message = sentence;
            }
        }
        for job in list.iter_mut().filter(|job| job.state == "waiting") {
            job.message = "waiting until no image is being pulled or unpacked".into();
        }
        Reply::Jobs(list)
    }
}
