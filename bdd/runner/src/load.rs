//! Steps of one's own, from a folder.
//!
//! | file | what it holds |
//! |---|---|
//! | `*.steps` | steps made of steps: a feature whose scenarios' names are phrases, `<1>`, `<2>` … their values |
//! | `*.sh` | a step as a shell script ([`crate::shell`]) |
//! | any other executable file | a program of steps ([`crate::external`]) |

use crate::{external, shell};
use kezhan_gherkin::{Ids, parse_bytes, pickles};
use kezhan_steps::{Action, Composite, Phrase, Place, StepDefinition};
use std::borrow::Cow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A file of steps that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", .path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
}

/// The definitions of a folder; files with faults are reported, the others serve.
pub fn load_steps(folder: &Path) -> (Vec<StepDefinition>, Vec<LoadError>) {
    let (mut definitions, mut errors) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            errors.push(LoadError {
                path: folder.to_owned(),
                what: format!("cannot be read: {error}"),
            });
            return (definitions, errors);
        }
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for path in files.into_iter().filter(|path| path.is_file()) {
        match one_file(&path) {
            Ok(found) => definitions.extend(found),
            Err(what) => errors.push(LoadError { path, what }),
        }
    }
    (definitions, errors)
}

fn one_file(path: &Path) -> Result<Vec<StepDefinition>, String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let executable = path.metadata().is_ok_and(|data| data.permissions().mode() & 0o111 != 0);
    match extension {
        "steps" => composites(path),
        "sh" => {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            let definition = shell::definition(path, &text);
            definition
                .map(|definition| vec![definition])
                .ok_or_else(|| "its head has no line \"# @step PHRASE\"".to_owned())
        }
        _ if executable => external::definitions(path),
        _ => Ok(Vec::new()),
    }
}

fn composites(path: &Path) -> Result<Vec<StepDefinition>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let document = parse_bytes(&bytes, "en")
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let pickles = pickles(&document, &mut Ids::default()).map_err(|error| error.to_string())?;
    let definitions = pickles.into_iter().map(|pickle| StepDefinition {
        name: Cow::Owned(pickle.name.clone()),
        values: pickle.name.replace("\\{", "").matches('{').count(),
        about: Cow::Owned(format!("{} steps in one", pickle.steps.len())),
        check: false,
        patience: Duration::ZERO,
        table: false,
        doc_string: false,
        built_in: false,
        place: Place {
            file: Cow::Owned(path.display().to_string()),
            line: u32::try_from(pickle.location.line).unwrap_or(1),
        },
        phrases: vec![Phrase {
            language: Cow::Owned(pickle.language),
            expression: Cow::Owned(pickle.name),
        }],
        action: Action::Composite(Arc::new(Composite { steps: pickle.steps })),
    });
    Ok(definitions.collect())
}
