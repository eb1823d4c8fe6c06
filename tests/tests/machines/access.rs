//! Who comes in, and who does not: the real API of a booted machine.

use anyhow::Result;
use berth_ctl::{Client, PrivateKey};
use berth_tests::{BOOT, Firmware, Guest};
use std::process::Command;

#[test]
fn only_the_operators_key_comes_in_and_curl_can_use_it() -> Result<()> {
    berth_image::host::need("curl", "curl", &|line| eprintln!("{line}"))?;
    let plan = Guest::new(Firmware::Direct)?;
    let key = PrivateKey::create(&plan.file("key"), "operator")?;
    let config = format!("format = 1\nhostname = \"test\"\n[access]\nkeys = [\"{}\"]\n", key.public_line());
    let other = PrivateKey::create(&plan.file("other"), "stranger")?;
    let mut guest = plan.with_exact_config(&config).boot()?;
    guest.ready()?;
    let pin = guest.running().machine_key(BOOT)?;
    let (_, port) = guest.ports();

    assert_eq!(Client::new("test", "127.0.0.1", port, Some(&pin), &key)?.machine()?.hostname, "test");
    let refused = Client::new("test", "127.0.0.1", port, Some(&pin), &other)?.units().map(drop);
    assert_eq!(refused.map_err(|e| e.kind().to_owned()), Err("key-refused".into()));
    let wrong = "sha256:".to_owned() + &"0".repeat(64);
    let refused = Client::new("test", "127.0.0.1", port, Some(&wrong), &key)?.units().map(drop);
    assert_eq!(refused.map_err(|e| e.kind().to_owned()), Err("machine-key".into()));

    let pem = guest.plan().file("operator.pem");
    std::fs::write(&pem, key.to_cert_pem()?)?;
    let url = format!("https://127.0.0.1:{port}/v1/units");
    let curl =
        |more: &[&str]| Command::new("curl").args(["-sSk", "--max-time", "20"]).args(more).arg(&url).output();
    let pem = pem.display().to_string();
    let answer = curl(&["--cert", &pem])?;
    let text = String::from_utf8_lossy(&answer.stdout);
    assert!(text.contains("\"name\":\"api\""), "{text} {}", String::from_utf8_lossy(&answer.stderr));
    // Without a certificate, and with the right one over an older TLS: nothing but an alert.
    for (more, alert) in
        [(&[][..], "certificate required"), (&["--cert", &pem, "--tls-max", "1.2"], "version")]
    {
        let answer = curl(more)?;
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(!answer.status.success() && answer.stdout.is_empty() && said.contains(alert), "{answer:?}");
    }
    assert!(curl(&["--cert", &pem])?.status.success());
    Ok(())
}
