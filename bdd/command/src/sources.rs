//! What the verbs have in common: files and the catalogue.

use kezhan_expressions::ParameterTypes;
use kezhan_features::{Loaded, load};
use kezhan_runner::load_steps;
use kezhan_steps::{Catalogue, StepDefinition};
use std::path::PathBuf;

/// Which features.
#[derive(Clone, Debug, clap::Args)]
pub struct FeatureArgs {
    /// Feature files, and folders to look through for *.feature
    #[arg(value_name = "FEATURES", default_value = "features")]
    pub features: Vec<PathBuf>,
    /// Spoken language of files without a `# language:` line
    #[arg(long, value_name = "CODE", default_value = "en")]
    pub language: String,
}

impl FeatureArgs {
    /// The parsed files and the faults of the others.
    pub fn load(&self) -> Loaded {
        load(&self.features, &self.language)
    }
}

/// Prints what is wrong with files; says whether anything was.
pub(crate) fn report_problems(loaded: &Loaded) -> bool {
    loaded.problems.iter().for_each(|problem| eprintln!("{problem}"));
    !loaded.problems.is_empty()
}

/// Which steps beside the built-in ones.
#[derive(Clone, Debug, clap::Args)]
pub struct StepArgs {
    /// Folders of steps of your own (default: the folder "steps" beside the features, if there is one)
    #[arg(long = "steps", value_name = "DIR")]
    steps: Vec<PathBuf>,
}

impl StepArgs {
    /// The built-in steps, those of the folders and `own`. Faults of definitions are printed, and the other
    /// definitions serve; the answer says whether there were none.
    pub fn catalogue(&self, features: &[PathBuf], own: Vec<StepDefinition>) -> (Catalogue, bool) {
        let types = ParameterTypes::default();
        let mut catalogue = Catalogue::default();
        let mut errors = catalogue.add(kezhan_vocabulary::all(), &types);
        errors.extend(catalogue.add(own, &types));
        let mut sound = true;
        for folder in self.folders(features) {
            let (definitions, faults) = load_steps(&folder);
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            sound &= faults.is_empty();
            errors.extend(catalogue.add(definitions, &types));
        }
        errors.iter().for_each(|error| eprintln!("{error}"));
        (catalogue, sound && errors.is_empty())
    }

    fn folders(&self, features: &[PathBuf]) -> Vec<PathBuf> {
        let mut folders = self.steps.clone();
        if folders.is_empty() {
            for feature in features {
                let folder = if feature.is_dir() {
                    feature.join("steps")
                } else {
                    feature.with_file_name("steps")
                };
                if folder.is_dir() && !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
        folders
    }
}
