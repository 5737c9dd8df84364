//! The gateway's settings.

use std::cell::RefCell;
use std::io::{Seek as _, SeekFrom, Write as _};

use onlyonce_gateway::config::{Loaded, Settings, Sources};

/// Whatever stands in a file of settings.
///
/// # Panics
/// When a refusal says nothing, or settings that were accepted are not what they print as.
pub fn config(data: &[u8]) {
    // Settings may name files, and the fuzzer should open none that do something.
    let text = String::from_utf8_lossy(data);
    if ["/dev", "/proc", "/sys"]
        .iter()
        .any(|folder| text.contains(folder))
    {
        return;
    }
    let (settings, printed) = match load(data) {
        Ok(loaded) => loaded,
        Err(said) => {
            assert!(said.contains("error"), "a refusal is told as one: {said}");
            return;
        }
    };
    // Secrets are hidden in print, and files may be gone by then: all else comes back.
    if settings.secret.is_none() && settings.tls.is_none() {
        match load(printed.as_bytes()) {
            Ok((again, _)) => assert_eq!(again, settings),
            Err(said) => panic!("print-config prints what is refused:\n{said}\n{printed}"),
        }
    }
}

/// The settings in `content` and how they print, or all that is wrong with them.
fn load(content: &[u8]) -> Result<(Settings, String), String> {
    let sources = FILE.with_borrow_mut(|file| {
        let written = file.as_file().set_len(0).and_then(|()| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(content)
        });
        written.expect("the folder for temporary files can be written to");
        Sources::none().with_file(file.path())
    });
    let loaded = Loaded::load(&sources).map_err(|errors| errors.to_string())?;
    for warning in &loaded.warnings {
        assert!(!warning.to_string().is_empty());
    }
    let printed = loaded.print();
    Ok((loaded.settings, printed))
}

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(
        tempfile::NamedTempFile::new().expect("a temporary file can be made"),
    );
}
