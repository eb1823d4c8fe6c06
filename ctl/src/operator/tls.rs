//! The operator's side of the handshake: our key in a throw-away certificate, theirs compared with the pinned one.

use super::client::ClientError;
use super::private::PrivateKey;
use berth_api::spki::Spki;
use berth_api::tls;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};

/// Compares the machine's key, and remembers it.
#[derive(Debug)]
pub struct PinCheck {
    pinned: Option<String>,
    peer: tls::Peer,
    certificate: Mutex<Option<Vec<u8>>>,
}

impl PinCheck {
    /// Fingerprint of the key that the machine showed.
    pub fn seen(&self) -> Option<String> {
        self.peer.seen().as_ref().map(Spki::fingerprint)
    }

    /// The certificate with that key, DER, if the key is the one that was expected.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The pinned and the shown fingerprint, if they differ.
    pub fn mismatch(&self) -> Option<(String, String)> {
        let (pinned, seen) = (self.pinned.clone()?, self.seen()?);
        (pinned != seen).then_some((pinned, seen))
    }
}

impl ServerCertVerifier for PinCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fits = |key: &Spki| self.pinned.as_ref().is_none_or(|pinned| *pinned == key.fingerprint());
        self.peer.check(end_entity, fits)?;
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.peer.verify_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.peer.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.peer.schemes()
    }
}

/// TLS for one machine.
pub fn config(
    key: &PrivateKey,
    pinned: Option<&str>,
) -> Result<(Arc<ClientConfig>, Arc<PinCheck>), ClientError> {
    let failed = |error: Error| ClientError::Setup(error.to_string());
    let provider = tls::provider();
    let check = Arc::new(PinCheck {
        pinned: pinned.map(str::to_owned),
        peer: tls::Peer::new(&provider),
        certificate: Mutex::default(),
    });
    let name = if key.comment.is_empty() { "operator" } else { &key.comment };
    let certificate =
        key.identity().certificate(name).map_err(|error| ClientError::Setup(error.to_string()))?;
    let private = PrivatePkcs8KeyDer::from(key.identity().pkcs8().to_vec());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(check.clone())
        .with_client_auth_cert(vec![certificate], private.into())
        .map_err(failed)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // The machine's name is nobody's business on the way, and machines are reached by address most often.
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), check))
}
