//! What a machine tells of itself, as Debian's Prometheus reads it, configured as `docs/metrics.md` says.

use anyhow::{Context, Result, ensure};
use berth_ctl::PrivateKey;
use berth_image::tools::{self, Tools};
use berth_qemu::http;
use berth_tests::{Firmware, Guest, SOON, WEB, config};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Between two questions to Prometheus.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// The page's block that begins with this line.
fn block<'a>(page: &'a str, first: &str) -> Result<&'a str> {
    let (_, rest) = page.split_once(&format!("```yaml\n{first}")).context("the page has no config")?;
    rest.split_once("```").map(|(block, _)| block).context("the config has no end")
}

/// What stands in backquotes at the beginning of each row below this heading.
fn conditions(page: &str) -> Vec<&str> {
    let table = page.split_once("| condition |").map_or("", |(_, rest)| rest);
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

/// A Prometheus; ends with the test.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Prometheus {
    fn start(tools: &Tools, folder: &Path) -> Result<Self> {
        let port = http::free_port()?;
        let mut command = tools.command("prometheus");
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=error");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, port })
    }

    fn ask(&mut self, path: &str) -> Result<serde_json::Value> {
        ensure!(self.child.try_wait()?.is_none(), "Prometheus has ended");
        let answer = http::get(self.port, path, SOON)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(serde_json::from_str(body)?)
    }

    /// The value of an expression, once it has one.
    fn value(&mut self, expression: &str) -> Result<f64> {
        let path = format!("/api/v1/query?query={}", escape(expression));
        let end = Instant::now() + SOON;
        loop {
            let answer = self.ask(&path).unwrap_or_default();
            if let Some(value) = answer["data"]["result"][0]["value"][1].as_str() {
                return Ok(value.parse()?);
            }
            if Instant::now() > end {
                let targets = self.ask("/api/v1/targets")?;
                anyhow::bail!("Prometheus has nothing for {expression}: {answer}\n{targets:#}");
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn debians_prometheus_scrapes_a_machine_as_the_docs_say() -> Result<()> {
    berth_image::host::need("curl", "curl", &|line| eprintln!("{line}"))?;
    let tools = tools::ensure(&|_| ())?;
    let plan = Guest::new(Firmware::Direct)?;
    let key = PrivateKey::create(&plan.file("prometheus"), "prometheus")?;
    let config = config(WEB)?.replace("keys = [", &format!("keys = [\"{}\", ", key.public_line()));
    let mut guest = plan.with_exact_config(&config).boot()?;
    guest.healthy("web")?;
    guest.ready()?;
    guest.page("/")?;
    let (_, port) = guest.ports();

    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("prometheus.pem"), key.to_cert_pem()?)?;
    fs::write(at("machines.pem"), guest.client()?.machine_certificate()?)?;

    // promtool first: it says what is wrong with which line.
    let url = format!("https://127.0.0.1:{port}/metrics");
    let mut curl = Command::new("curl");
    let pem = at("prometheus.pem").display().to_string();
    let text = tools::output("curl", curl.args(["-sSfk", "--max-time", "20", "--cert", &pem, &url]))?;
    let mut command = tools.command("promtool");
    let mut promtool = command.args(["check", "metrics"]).stdin(Stdio::piped());
    promtool = promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn()?;
    promtool.stdin.take().context("no stdin")?.write_all(&text)?;
    let said = promtool.wait_with_output()?;
    let words = [said.stdout, said.stderr].concat();
    ensure!(
        said.status.success() && words.is_empty(),
        "promtool: {}\n{}",
        String::from_utf8_lossy(&words),
        String::from_utf8_lossy(&text)
    );

    // The docs' config, for this machine; a second job knows another machine's certificate.
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md"))?;
    let jobs = block(&page, "scrape_configs:\n")?.replace("192.0.2.10:7443", &format!("127.0.0.1:{port}"));
    ensure!(jobs.contains(&format!("127.0.0.1:{port}")), "the docs name another address");
    ensure!(!jobs.contains("insecure"), "the docs would have nothing checked");
    let stranger = jobs.replace("job_name: berth", "job_name: stranger").replace("machines.pem", "other.pem");
    fs::write(at("other.pem"), key.to_cert_pem()?)?;
    let text = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}{stranger}");
    fs::write(at("prometheus.yml"), text)?;
    let checked = tools.command("promtool").args(["check", "config"]).arg(at("prometheus.yml")).output()?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let mut prometheus = Prometheus::start(&tools, folder.path())?;
    let all = "{job=\"berth\"} == 1";
    assert_eq!(prometheus.value(&format!("up{all}"))?, 1.0);
    assert_eq!(prometheus.value("up{job=\"stranger\"}")?, 0.0);
    let targets = prometheus.ask("/api/v1/targets")?.to_string();
    ensure!(targets.contains("x509: certificate signed by unknown authority"), "{targets}");

    assert_eq!(prometheus.value("berth_unit_state{unit=\"web\",state=\"healthy\"}")?, 1.0);
    assert_eq!(prometheus.value("sum(berth_unit_state{unit=\"web\"})")?, 1.0);
    assert_eq!(prometheus.value("berth_boot_healthy")?, 1.0);
    assert_eq!(prometheus.value("berth_slot_running{slot=\"a\"}")?, 1.0);
    for above_zero in [
        "sum(berth_unit_cpu_seconds_total{unit=\"web\"})",
        "berth_unit_memory_bytes{unit=\"web\"}",
        "berth_unit_memory_peak_bytes{unit=\"web\"}",
        "berth_unit_memory_limit_bytes{unit=\"api\"}",
        "berth_unit_pids{unit=\"web\"}",
        "berth_unit_network_receive_bytes_total{unit=\"web\"}",
        "berth_unit_network_transmit_packets_total{unit=\"web\"}",
        "berth_machine_network_receive_bytes_total{device=\"eth0\"}",
        "sum(berth_machine_cpu_seconds_total{mode=\"user\"})",
        "berth_machine_memory_available_bytes",
        "berth_machine_state_available_bytes",
        "berth_machine_boot_time_seconds",
        "berth_machine_cpus",
        "berth_clock_synchronized + 1",
    ] {
        ensure!(prometheus.value(above_zero)? > 0.0, "{above_zero} is zero");
    }
    // What it has read may have been in memory before it began.
    prometheus.value("berth_unit_io_bytes_total{unit=\"web\",operation=\"read\"}")?;
    // Debian's kernel counts pressure.
    prometheus.value("berth_unit_pressure_waiting_seconds_total{unit=\"web\",resource=\"cpu\"}")?;
    prometheus.value("berth_machine_pressure_waiting_seconds_total{resource=\"memory\"}")?;

    // What the docs propose for alerts is understood, and does not fire on a machine that is well.
    let conditions = conditions(&page);
    ensure!(conditions.len() >= 5, "the docs propose {conditions:?}");
    for condition in conditions {
        let answer = prometheus.ask(&format!("/api/v1/query?query={}", escape(condition)))?;
        assert_eq!(answer["status"], "success", "{condition}: {answer}");
        assert_eq!(answer["data"]["result"].as_array().map(Vec::len), Some(0), "{condition}: {answer}");
    }
    Ok(())
}
