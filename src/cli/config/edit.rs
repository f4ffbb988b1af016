//! Changes the configuration file.
//!
//! Guarantees: comments and order stay. The new text is parsed as a configuration before it is
//! written. The file is written with [`NamedFile`] and keeps its owner, mode and links. Concurrent
//! changes are all kept. An invalid file is not touched.

use std::fs::{self, File as Lock};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Table, Value};

use crate::exit::CliError;
use crate::named_file::NamedFile;
use crate::render::without_secrets;
use crate::settings::file::{File, mistake, parse};

/// Mode of a new file: all users may read the bus's address.
const MODE: u32 = 0o644;

/// Mode of a file with a password.
const SECRET_MODE: u32 = 0o600;

/// A pending change of the configuration file.
pub(crate) struct Edit {
    path: PathBuf,
    document: DocumentMut,
    /// A lock on the folder, held until the change is written.
    _lock: Lock,
}

impl Edit {
    /// Starts to change a file, which may be missing.
    pub(crate) fn open(path: PathBuf) -> Result<Self, CliError> {
        let failed = |doing: &str, path: &Path, error: io::Error| {
            CliError::other(format!("{doing} {}: {error}", path.display()))
        };
        if path.as_os_str() == "-" {
            return Err(CliError::usage("--config -: a configuration is read, too, so it has to be a file"));
        }
        let path = std::path::absolute(&path).map_err(|error| failed("finding", &path, error))?;
        let path = path.canonicalize().unwrap_or(path);
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        fs::create_dir_all(&folder).map_err(|error| failed("making", &folder, error))?;
        let lock = Lock::open(&folder).and_then(|folder| folder.lock().map(|()| folder));
        let lock = lock.map_err(|error| failed("locking", &folder, error))?;
        File::read(&path)?;
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| failed("reading", &path, error))?,
        };
        let document = text
            .parse()
            .map_err(|error| CliError::usage(format!("configuration {}: {error}", path.display())))?;
        Ok(Self { path, document, _lock: lock })
    }

    /// Sets a typed value: a text unless the setting is a number, a list or a boolean.
    pub(crate) fn set_text(&mut self, key: &str, value: &str) -> Result<(), CliError> {
        let before = self.document.clone();
        let as_text = self.set(key, Value::from(value));
        let (Err(mistake), Ok(as_toml)) = (&as_text, value.parse::<Value>()) else { return as_text };
        if as_toml.is_str() {
            return Err(CliError::usage(mistake.message.clone()));
        }
        self.document = before;
        self.set(key, as_toml)
    }

    /// Sets a value. Refuses an invalid one and changes nothing.
    pub(crate) fn set(&mut self, key: &str, value: Value) -> Result<(), CliError> {
        let (table, last) = walk(key)?;
        let before = self.document.clone();
        let mut place: &mut Table = self.document.as_table_mut();
        for name in table {
            let below = place.entry(name).or_insert_with(|| {
                let mut table = Table::new();
                table.set_implicit(true);
                Item::Table(table)
            });
            if let Some(inline) = below.as_inline_table().cloned() {
                *below = Item::Table(inline.into_table());
            }
            match below.as_table_mut() {
                Some(table) => place = table,
                None => {
                    self.document = before;
                    return Err(CliError::usage(format!("{key}: {name:?} is a value, not a table")));
                }
            }
        }
        match place.get_mut(last).and_then(Item::as_value_mut) {
            Some(old) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            None => {
                place.insert(last, Item::Value(value));
                self.keep_heading(last);
            }
        }
        let sound = parse(Path::new(key), &self.document.to_string());
        sound.map(drop).map_err(|_| {
            // Without the line number, since the user has not seen the new text.
            let why = mistake_in(&self.document.to_string());
            self.document = before;
            CliError::usage(format!("{key}: {why}"))
        })
    }

    /// Keeps the comments of a comment-only file at its top.
    fn keep_heading(&mut self, only: &str) {
        let comments = self.document.trailing().as_str().unwrap_or_default().to_owned();
        let table = self.document.as_table_mut();
        if table.len() == 1
            && !comments.is_empty()
            && let Some(mut key) = table.key_mut(only)
        {
            key.leaf_decor_mut().set_prefix(comments);
            self.document.set_trailing("");
        }
    }

    /// Removes a setting.
    pub(crate) fn unset(&mut self, key: &str) -> Result<(), CliError> {
        let (table, last) = walk(key)?;
        let mut place = self.document.as_table_mut() as &mut dyn toml_edit::TableLike;
        let missing = || CliError::other(format!("{key}: it is not set in {}", self.path.display()));
        for name in table {
            place = place.get_mut(name).and_then(Item::as_table_like_mut).ok_or_else(missing)?;
        }
        place.remove(last).map(drop).ok_or_else(missing)
    }

    /// Writes the file.
    pub(crate) fn save(self) -> Result<(), CliError> {
        let text = self.document.to_string();
        self.write(&text).map_err(|error| {
            CliError::other(format!("writing the configuration {}: {error}", self.path.display()))
        })
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mode = match fs::metadata(&self.path) {
            Ok(there) => there.permissions().mode() & 0o777,
            Err(_) => MODE,
        };
        let has_secret = text.lines().any(|line| without_secrets(line) != line);
        let mode = if has_secret { mode & SECRET_MODE } else { mode };
        NamedFile::open(&self.path)?.write(text.as_bytes(), Some(mode))
    }
}

/// The tables that lead to a key, and its last name.
fn walk(key: &str) -> Result<(Vec<&str>, &str), CliError> {
    let mut names: Vec<&str> = key.split('.').collect();
    let is_name = |name: &&str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    match names.pop() {
        Some(last) if is_name(&last) && names.iter().all(is_name) => Ok((names, last)),
        _ => Err(CliError::usage(format!("{key:?} is not the name of a setting"))),
    }
}

/// The error in a text, without its line.
fn mistake_in(text: &str) -> String {
    match toml::from_str::<File>(text) {
        Ok(_) => "it cannot be set".to_owned(),
        Err(error) => mistake(&error, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, change: impl FnOnce(&mut Edit) -> Result<(), CliError>) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        fs::write(&path, text).expect("written");
        let done = Edit::open(path.clone()).and_then(|mut edit| change(&mut edit).and_then(|()| edit.save()));
        let now = fs::read_to_string(&path).expect("read");
        match done {
            Ok(()) => Ok(now),
            Err(failure) => {
                assert_eq!(now, text, "a refused change changes nothing");
                Err(failure.message)
            }
        }
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "# the bus\nnats = \"nats://a:1\" # here\n\n[env]\nA = \"1\"\n";
        let now = edited(text, |edit| edit.set_text("nats", "nats://b:2")).expect("set");
        assert_eq!(now, text.replace("a:1", "b:2"));
        let now = edited(text, |edit| edit.set_text("env.B", "2")).expect("set");
        assert_eq!(now, format!("{text}B = \"2\"\n"));
        let now = edited(text, |edit| edit.set_text("peer_id", "vps")).expect("set");
        assert!(now.starts_with("# the bus\nnats = \"nats://a:1\" # here\npeer_id = \"vps\"\n"), "{now}");
        let now = edited("# mine\n", |edit| edit.set_text("peer_id", "vps")).expect("set");
        assert_eq!(now, "# mine\npeer_id = \"vps\"\n");
        assert_eq!(edited(text, |edit| edit.unset("env.A")).expect("unset"), text.replace("A = \"1\"\n", ""));
    }

    #[test]
    fn values_are_of_the_kind_that_is_wanted() {
        for (key, value, wanted) in [
            ("max_jobs", "7", "max_jobs = 7\n"),
            ("tags", "['a', 'b']", "tags = ['a', 'b']\n"),
            ("directory", "/7", "directory = \"/7\"\n"),
            ("peer_id", "7", "peer_id = \"7\"\n"),
            ("tasks.x.steps", "['make']", "[tasks.x]\nsteps = ['make']\n"),
        ] {
            assert_eq!(edited("", |edit| edit.set_text(key, value)).as_deref(), Ok(wanted), "{key}");
        }
    }

    #[test]
    fn a_mistake_names_the_setting_and_changes_nothing() {
        for (key, value, said) in [
            ("nast", "x", "nast"),
            ("role", "boss", "boss"),
            ("max_jobs", "many", "max_jobs"),
            ("nats.x", "1", "not a table"),
            ("", "x", "not the name"),
            ("a..b", "x", "not the name"),
            ("env.A=B", "x", "not the name"),
        ] {
            let why = edited("nats = 'n'\n", |edit| edit.set_text(key, value)).expect_err(key);
            assert!(why.contains(said), "{key}: {why}");
        }
        let why = edited("role = \n", |edit| edit.set_text("nats", "x")).expect_err("half written");
        assert!(why.contains("line 1"), "{why}");
        edited("", |edit| edit.unset("nats")).expect_err("not set");
    }

    #[test]
    fn a_file_with_a_password_is_its_owners() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("below/config.toml");
        let mode = |value: &str| {
            let mut edit = Edit::open(path.clone()).expect("opened");
            edit.set_text("nats", value).expect("set");
            edit.save().expect("saved");
            fs::metadata(&path).expect("there").permissions().mode() & 0o777
        };
        assert_eq!(mode("nats://a:1"), 0o644);
        assert_eq!(mode("nats://token@a:1"), 0o600);
    }
}
