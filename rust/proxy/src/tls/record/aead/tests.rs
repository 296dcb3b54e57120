use super::*;

const EACH: [Library; 2] = [Library::AwsLc, Library::Ring];

#[test]
fn what_one_library_seals_the_other_opens() {
    for (algorithm, size) in [(Algorithm::Aes128Gcm, 16), (Algorithm::Aes256Gcm, 32)] {
        let key: Vec<u8> = (0..size).collect();
        let text: Vec<u8> = (0..1000_u32).map(|i| (i * 7) as u8).collect();
        let mut sealed = Vec::new();
        for library in EACH {
            let mut bytes = text.clone();
            let aead = Aead::new(library, algorithm, &key).unwrap();
            let tag = aead.seal([3; NONCE], b"aad", &mut bytes).unwrap();
            bytes.extend_from_slice(&tag);
            sealed.push(bytes);
        }
        assert_eq!(sealed[0], sealed[1]);
        for (library, mut bytes) in EACH.into_iter().rev().zip(sealed) {
            let aead = Aead::new(library, algorithm, &key).unwrap();
            let opened = aead.open([3; NONCE], b"aad", &mut bytes).unwrap();
            assert_eq!(opened, text);
        }
    }
}

#[test]
fn whatever_is_changed_is_refused() {
    for library in EACH {
        let aead = Aead::new(library, Algorithm::Aes256Gcm, &[1; 32]).unwrap();
        let mut text = *b"forty two bytes or so";
        let tag = aead.seal([3; NONCE], b"aad", &mut text).unwrap();
        let sealed = [&text[..], &tag].concat();
        let open = |nonce: u8, aad: &[u8], mut sealed: Vec<u8>| {
            aead.open([nonce; NONCE], aad, &mut sealed).is_ok()
        };
        assert!(open(3, b"aad", sealed.clone()));
        assert!(!open(4, b"aad", sealed.clone()));
        assert!(!open(3, b"add", sealed.clone()));
        assert!(!open(3, b"aad", sealed[..TAG - 1].to_vec()));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(!open(3, b"aad", changed), "{library} {at}");
        }
    }
}

#[test]
fn a_key_of_another_size_is_our_own_fault() {
    for library in EACH {
        let wrong = Aead::new(library, Algorithm::Aes256Gcm, &[1; 16]);
        assert_eq!(wrong.err().map(|error| error.reason()), Some("internal"));
    }
}
