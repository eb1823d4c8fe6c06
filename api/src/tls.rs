//! Who is it? TLS 1.3 with a client certificate of which only the key is looked at.

use crate::identity::Identity;
use crate::keys::Authorised;
use crate::spki::Spki;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use std::sync::{Arc, Mutex, PoisonError};

/// ALPN names, best first.
pub const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What both ends make of the other's certificate: the key in it, and whether its holder is there. Nothing else of a
/// certificate is looked at. One per connection; it remembers the key, so that a refusal can name it.
#[derive(Debug)]
pub struct Peer {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Option<Spki>>,
}

impl Peer {
    /// Nothing seen yet.
    pub fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms, seen: Mutex::new(None) }
    }

    /// The key that it showed, welcome or not.
    pub fn seen(&self) -> Option<Spki> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the key out of its certificate and asks `welcome` about it. No becomes the alert access_denied.
    pub fn check(&self, der: &CertificateDer<'_>, welcome: impl FnOnce(&Spki) -> bool) -> Result<(), Error> {
        let spki = Spki::of_certificate(der).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let known = welcome(&spki);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(spki);
        if known { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    /// It holds the private half of `der`'s key: the only signature in a handshake that counts here.
    pub fn verify_tls13(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = Spki::of_certificate(der).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let key = SubjectPublicKeyInfoDer::from(spki.as_der());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    /// No signature of an older version is good.
    pub fn verify_tls12(&self) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    /// The schemes of the two kinds of key.
    pub fn schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Looks a client's key up.
#[derive(Debug)]
pub struct KeyCheck {
    authorised: Arc<Authorised>,
    peer: Peer,
}

impl KeyCheck {
    /// The key that the client showed, authorised or not.
    pub fn seen(&self) -> Option<Spki> {
        self.peer.seen()
    }
}

impl ClientCertVerifier for KeyCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let known = |key: &Spki| self.authorised.get(key).is_some();
        self.peer.check(end_entity, known).map(|()| ClientCertVerified::assertion())
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

/// The machine's side: its certificate, ready for any number of connections.
#[derive(Debug)]
pub struct Machine {
    provider: Arc<CryptoProvider>,
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Machine {
    /// `certificate` carries the key of `identity`.
    pub fn new(identity: &Identity, certificate: CertificateDer<'static>) -> Self {
        let key = PrivatePkcs8KeyDer::from(identity.pkcs8().to_vec());
        Self { provider: provider(), certificate, key }
    }

    /// The TLS configuration of one connection, with the keys authorised at this moment.
    pub fn accept(&self, authorised: Arc<Authorised>) -> Result<(Arc<ServerConfig>, Arc<KeyCheck>), Error> {
        let check = Arc::new(KeyCheck { authorised, peer: Peer::new(&self.provider) });
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(check.clone())
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key().into())?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // A resumed session would not show its key again, and outlive the key's authorisation.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((Arc::new(config), check))
    }
}
