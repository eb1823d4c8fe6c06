//! What operators have done with images: pull, load, remove, prune. Each is a job with a number, which is told as it goes on
//! and for a while after its end.

use super::status::refuse;
use super::{STORE, Supervisor};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::{ImageOrder, JobStatus, Reply, Sweep, ToWorker};
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

    /// The store has an archive to read, or is to have one.
    pub(super) fn loads(&self) -> bool {
        self.all.iter().any(|job| job.order == ImageOrder::Load && !job.is_over())
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
            ImageOrder::Load => return self.order_load(now, k),
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

    fn order_load(&mut self, now: Duration, k: &mut dyn Kernel) -> Reply {
        if !self.units.contains_key(STORE) {
            return refuse("failed", "this system has no image store (unit \"store\")");
        }
        k.say(console::ordered(&ImageOrder::Load));
        let id = self.jobs.begin(ImageOrder::Load, "waiting");
        self.idle.forget(STORE);
        self.want(STORE);
        self.look_again = true;
        self.run_events(now, k);
        Reply::Job(id)
    }

    /// Hands archives to the store, if it is there to take them.
    pub(super) fn send_loads(&mut self, k: &mut dyn Kernel) {
        if !self.takes_work(STORE) {
            return;
        }
        let waits = |job: &&mut JobStatus| job.order == ImageOrder::Load && job.state == "waiting";
        for job in self.jobs.all.iter_mut().filter(waits) {
            if k.tell(STORE, &ToWorker::Load { job: job.id }, None) {
                job.state = "loading".into();
            } else {
                end(job, Err("the archive has got lost on its way to the store; try again"));
            }
        }
    }

    /// The store has read one.
    pub(super) fn loaded(&mut self, id: u64, images: &[String], error: Option<String>, now: Duration) {
        if let Some(job) = self.jobs.all.iter_mut().find(|job| job.id == id && !job.is_over()) {
            let images = text::bounded(&images.join(", "), limits::TEXT_BYTES);
            match error {
                None => end(job, Ok(images)),
                Some(why) if images.is_empty() => end(job, Err(&why)),
                Some(why) => end(job, Err(&format!("{why} (loaded before that: {images})"))),
            }
        }
        self.store_is_idle(now);
    }

    /// The store is gone, and what it was reading with it; or all that waits for it (`for_good`).
    pub(super) fn loads_cut_off(&mut self, for_good: bool) {
        let lost = |job: &&mut JobStatus| {
            job.order == ImageOrder::Load && (job.state == "loading" || for_good && !job.is_over())
        };
        for job in self.jobs.all.iter_mut().filter(lost) {
            end(job, Err("the store ended before it was done; see \"berth logs store\", and try again"));
        }
    }

    /// The number that the next job gets.
    pub fn next_job(&self) -> u64 {
        self.jobs.last + 1
    }

    /// This one is not over.
    pub fn is_job(&self, id: u64) -> bool {
        self.jobs.all.iter().any(|job| job.id == id && !job.is_over())
    }

    pub(super) fn job_list(&self) -> Reply {
        let mut list: Vec<JobStatus> = self.jobs.all.iter().cloned().collect();
        for job in list.iter_mut().filter(|job| job.state == "pulling") {
            if let ImageOrder::Pull(image) = &job.order
                && let Some(sentence) = self.how_far(image)
            {
                job.message = sentence;
            }
        }
        for job in list.iter_mut().filter(|job| job.state == "waiting" && job.order != ImageOrder::Load) {
            job.message = "waiting until no image is being pulled or unpacked".into();
        }
        Reply::Jobs(list)
    }
}
