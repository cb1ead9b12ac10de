//! `stablerep train`.

mod data;
mod finetune;
mod language;
mod recipe;
mod segment;
mod settings;
mod watch;

use std::path::PathBuf;

use crate::answer;
use crate::bail;
use crate::cli::paths;
use crate::config::shell_word;
use crate::device::Device;
use crate::dist::Ranks;
use crate::error::Result;
use crate::eval::DataSource;
use crate::say;
use crate::train::{self, Config, SaveEvery, Summary, TestSet};

use recipe::{recipe, set};
pub(super) use settings::{Settings, preset_help};
use watch::WatchArgs;

/// Train a vision transformer on generated images.
///
/// Reads webdataset shards (made by `stablerep generate`, or any with jpg/png and txt), and writes to --output a
/// checkpoint, metrics.jsonl, TensorBoard events and config.json. Rerunning the same command resumes an interrupted run
/// in the same bits; a finished one is left as it is.
///
/// Which images belong to one caption: samples with the same caption text (.txt, else "caption" in .json), wherever
/// they stand; where .json has a caption_id, with the same text and caption_id. In a sample, key.jpg (or .jpeg, .png)
/// is the picture, and key.0.jpg key.1.jpg … are several of one caption; pictures with other names (key.depth.png) are
/// not used. A key ends at the first dot of a name, and the members of a sample stand side by side. Captions with fewer
/// images than are drawn of each are left out, and counted; so are pictures that `generate` flagged not_finite, and
/// those it drew twice (of one caption, with one seed).
///
/// A run belongs to what its shards hold, not to where they lie: they may be moved or named otherwise.
///
/// A JPEG or PNG becomes what Pillow's convert("RGB") makes of it: the EXIF orientation is not followed, alpha is
/// dropped, palettes, gray and CMYK become RGB; samples of 16 bits keep their high byte. One that is cut or damaged, or
/// larger than 178,956,970 pixels or 65,535 on a side, is bad (--max-bad).
///
/// Settings come from, in this order: built-in defaults (configs/train-defaults.toml: the paper's recipe without its
/// size; then configs/mae-defaults.toml for --method mae, configs/finetune-defaults.toml for finetune,
/// configs/segment-defaults.toml for segment), --preset, --config, flags. The run writes config.toml, with which
/// `--config` gives the same run again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Folders of shards, single .tar files, or patterns such as dir/{00000..00012}.tar. With weights (real=0.3
    /// drawn=0.7) every batch is mixed of them in these proportions, and captions of one text in two of them stay apart
    #[arg(long, required = true, num_args = 1.., value_name = "SHARDS")]
    data: Vec<PathBuf>,
    /// Train on a folder that `generate` has not finished, as far as it is
    #[arg(long)]
    allow_partial: bool,
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    #[arg(long, value_name = "NAME", help = preset_help())]
    preset: Option<String>,
    /// Labelled photographs that finetune's classifier is scored on at the end, as `stablerep probe --test` takes them;
    /// classes are matched by number
    #[arg(long, value_name = "PATH")]
    test: Option<PathBuf>,
    /// IDX labels of --test
    #[arg(long, value_name = "FILE", requires = "test")]
    test_labels: Option<PathBuf>,
    /// How often to score it before the end: 1epochs or 5000steps
    #[arg(long, value_name = "INTERVAL", requires = "test")]
    test_every: Option<SaveEvery>,
    /// How often to save: 10000steps, 0.5epochs or 600s (and always at the end and on SIGINT/SIGTERM)
    #[arg(long, default_value = "600s", value_name = "INTERVAL")]
    save_every: SaveEvery,
    /// Where to compute: cpu, cuda (the first GPU, or that of LOCAL_RANK or SLURM_LOCALID) or cuda:N
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    // Flattened groups come last: their help heading holds for every argument after it.
    #[command(flatten)]
    watch: WatchArgs,
    #[command(flatten)]
    settings: Settings,
}

const EXAMPLES: &str = "\
Examples:
  A small model on 32×32 images, 200 steps of 64 captions × 4 images:
    stablerep train --data shards --output run --model custom --image-size 32 --patch-size 8 --width 128 --depth 4 \\
        --heads 4 --head-dims 512,128 --batch 64 --images-per-caption 4 --steps 200 --lr 1e-3

  The paper's schedule on CC12M:
    stablerep train --preset stablerep-cc12m-1x --data shards --output run

  SimCLR with the compute of the first example (64·4/2 captions, two crops each):
    … --method simclr --batch 128";

/// Runs the training.
///
/// # Errors
/// Every exit code of the program can come out of it.
pub fn run(args: Args) -> Result<()> {
    if let Ok(ranks) = Ranks::from_env_or(None, None)
        && ranks.world_size > 1
    {
        say!("training uses one device: {ranks}, is ignored");
    }
    let mut config = config(args)?;
    train::pack::pack(&mut config)?;
    let Summary { steps, checkpoint, loss, .. } = train::run(&config)?;
    if let Some(loss) = loss {
        answer!("{steps} steps done, the loss of the last is {loss:.4}: {}", checkpoint.display());
    }
    let run = shell_word(&config.output);
    if config.recipe.segment.is_some() {
        answer!("next: `stablerep eval segment --checkpoint {run} --data FOLDER --output SCORES` scores it,");
        answer!("`stablerep export --checkpoint {run} --output DIR` makes a timm folder of its encoder");
        return Ok(());
    }
    answer!(
        "next: `stablerep probe --checkpoint {run} --train PHOTOS --test PHOTOS` scores the encoder on labelled photographs,"
    );
    answer!("`stablerep export --checkpoint {run} --output DIR` makes a timm folder of it");
    Ok(())
}

/// Lays defaults, preset and flags (those of a --config file among them) over each other.
fn config(args: Args) -> Result<Config> {
    let device = Device::parse(&args.device)?;
    let settings = args.settings.over(args.preset.as_deref())?;
    let activations = settings.activations();
    let reads_texts = set(settings.method, "method")?.method().reads_texts();
    let tokenizer = reads_texts.then(|| settings.open_tokenizer()).transpose()?;
    let language = reads_texts.then(|| settings.language(tokenizer.as_deref())).transpose()?;
    let recipe = recipe(data::weighted(args.data)?, settings, language, device)?;
    recipe.validate()?;
    let beside = args.watch.paths().chain(args.test.iter().map(|path| ("--test", path)));
    let beside: Vec<(&str, &PathBuf)> =
        beside.chain(args.test_labels.iter().map(|path| ("--test-labels", path))).collect();
    let named = recipe.data.iter().map(|path| ("--data", path)).chain([("--output", &args.output)]);
    let named = named.chain(recipe.init_from.iter().map(|path| ("--init-from", path)));
    for (flag, path) in named.chain(beside.iter().copied()) {
        if path.to_str().is_none() {
            bail!(Usage, "{flag} {}: its name is not UTF-8, in which a run records it; rename it", path.display());
        }
    }
    for (flag, path) in beside {
        if !path.display().to_string().contains('{')
            && let Err(what) = paths::there(path, "labelled photographs, or what is said of them")
        {
            bail!(Usage, "{flag} {}: {what}", path.display());
        }
    }
    // A run that goes on does not read it again.
    if let Some(path) = &recipe.init_from
        && !args.output.join(train::CHECKPOINT).exists()
        && let Err(what) = paths::there(path, paths::ENCODER)
    {
        bail!(Usage, "--init-from {}: {what}", path.display());
    }
    let Args { output, save_every, allow_partial, watch, test, test_labels: labels, test_every: every, .. } = args;
    let watch = watch.config();
    let test = test.map(|path| TestSet { images: DataSource { path, labels }, every });
    if test.is_some() && recipe.finetune.is_none() {
        bail!(Usage, "--test goes with --method finetune alone; `stablerep probe` scores other encoders");
    }
    Ok(Config { recipe, activations, output, save_every, device, allow_partial, watch, tokenizer, test })
}
