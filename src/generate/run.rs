//! A whole run: what is left to draw of a caption list, drawn, and what describes the folder afterwards.

use std::fs;
use std::path::Path;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::calibration::CalibrationFile;
use super::compare::{Compared, compare};
use super::config::Config;
use super::drawing::guides;
use super::finish;
use super::identity::{self, Identity, Set};
use super::limits::within;
use super::painter::NOTHING_YET;
use super::pipeline::Pipeline;
use super::plan::{self, Demands, Held, Stats, Unit};
use super::settings::{Fp8, Settings};
use super::shard_line::ShardLine;
use super::unit::Job;
use crate::bail;
use crate::captions::{Captions, Options};
use crate::config::hex;
use crate::device::Plan;
use crate::error::{Error, Result};
use crate::metrics::{self, Progress};
use crate::say;
use crate::store;
use crate::weights::SafeTensors;

/// Runs `config` to its end, or to a signal: then finished shards stay and the same command goes on from them. Returns
/// the counts of every set of [`Config::sets`]; `told` hears of a comparison, if one is asked for, before anything is
/// drawn.
pub fn run(config: &Config, told: &mut dyn FnMut(Compared)) -> Result<Vec<Stats>> {
    config.check()?;
    let captions = read_captions(&config.captions, &config.caption_options)?;
    store::check_interrupt(NOTHING_YET)?;
    let fp8 = config.fp8.as_deref().map(CalibrationFile::open).transpose()?;
    let mut memory = Plan::new();
    let mut pipeline = Pipeline::open(&settings(config, fp8.as_ref()), &mut memory)?;
    let noise =
        config.initial_noise.as_deref().map(|path| read_noise(path, &captions, config, &pipeline)).transpose()?;
    let identity = identity(config, &captions, &pipeline, fp8.as_ref(), noise.as_ref());
    let sets: Vec<Set> = config
        .sets()
        .into_iter()
        .map(|(w, folder)| {
            let as_diffusers = pipeline.corrected() || w < 1.0;
            let drawing = identity.drawing.guided_by(w);
            Set { folder, identity: Identity { drawing, as_diffusers, ..identity.clone() } }
        })
        .collect();
    store::check_interrupt(NOTHING_YET)?;
    // Only now that nothing is left to refuse: a folder remembers its first settings.
    let units = plan::units(captions.list.len(), config.captions_per_shard());
    let _places = identity::claim(&sets, &captions, &units, config.ranks, fp8.as_ref())?;
    if memory.total_bytes() > 0 {
        say!("{memory}");
    }

    if config.compare {
        told(compare(config, &captions.list, &mut pipeline)?);
    }
    let demands = Demands {
        captions: &captions.list,
        images_per_caption: config.images_per_caption,
        latents: config.save_latents,
        by_stats: config.done_by_stats,
    };
    let mine: Vec<&Unit> = units.iter().filter(|unit| config.ranks.mine(unit.index)).collect();
    let left = left_to_draw(&mine, &sets, &demands)?;
    let shards_left: usize = left.iter().map(|(_, sets)| sets.len()).sum();
    announce(config, mine.len() * sets.len(), shards_left);

    let images: usize =
        left.iter().map(|(unit, sets)| unit.captions.len() * config.images_per_caption * sets.len()).sum();
    let progress = Progress::bar(images as u64, "images", ("image", 1));
    let started = Instant::now();
    let job = Job { config, captions: &captions.list, noise: noise.as_ref().map(|n| n.values.as_slice()) };
    let mut line = ShardLine::new(&job, &mut pipeline, &progress);
    let drawn = left.iter().try_for_each(|(unit, sets)| line.make(unit, sets)).and_then(|()| line.finish());
    let (finished, dropped) = line.made();
    drop(line);
    if let Err(Error::Interrupted(_)) = drawn {
        bail!(
            Interrupted,
            "stopped by a signal; {} finished shards kept, {dropped} images of unfinished ones dropped; \
             run the same command again to go on",
            mine.len() * sets.len() - shards_left + finished
        );
    }
    drawn?;
    progress.finish();
    if images > 0 {
        let seconds = started.elapsed().as_secs_f64();
        say!("{images} images in {seconds:.1} s: {}", metrics::rate(images as f64 / seconds, "image"));
    }
    sets.iter().map(|set| finish::when_all_done(&set.folder, &demands, &units, config.ranks)).collect()
}

/// What of this rank's units is left to draw, and for which sets; what was lost or spoiled is told. A folder where
/// something is left is not complete from here on.
fn left_to_draw<'a>(
    mine: &[&'a Unit],
    sets: &'a [Set],
    demands: &Demands<'_>,
) -> Result<Vec<(&'a Unit, Vec<&'a Set>)>> {
    let mut left: Vec<(&Unit, Vec<&Set>)> = Vec::new();
    let mut gone = 0;
    for &unit in mine {
        let mut wanting = Vec::new();
        for set in sets {
            let tar = unit.tar(&set.folder);
            match unit.held(&set.folder, demands)? {
                Held::Done(_) => continue,
                Held::Uncounted(stats) => {
                    say!("{}: its counts were lost; made again from its samples", tar.display());
                    stats.write(&unit.stats(&set.folder))?;
                    continue;
                }
                Held::Spoiled(why) => say!("{}: {why}; drawn again", tar.display()),
                Held::Gone(_) => gone += 1,
                Held::Nothing => {}
            }
            identity::unfinish(&set.folder)?;
            wanting.push(set);
        }
        if !wanting.is_empty() {
            left.push((unit, wanting));
        }
        store::check_interrupt(NOTHING_YET)?;
    }
    if gone > 0 {
        say!(
            "{gone} shards have their counts here and are gone themselves; drawn again to the same bytes \
             (--done-by-stats takes shards that were moved away as done)"
        );
    }
    Ok(left)
}

fn settings<'a>(config: &'a Config, fp8: Option<&'a CalibrationFile>) -> Settings<'a> {
    // Memory for two branches if any set needs them.
    let scales = config.sets();
    let guided = scales.iter().map(|(w, _)| *w).find(|&w| guides(w));
    Settings {
        model: &config.model,
        loras: &config.loras,
        device: config.device,
        precision: config.precision,
        fp8: fp8.map_or(Fp8::Off, |file| Fp8::On(&file.calibration)),
        drawing: config.drawing.guided_by(guided.unwrap_or(1.0)),
        store_size: config.store_size,
        batch: config.batch,
    }
}

/// Reads a caption file and says what of it is not drawn.
pub(super) fn read_captions(path: &Path, options: &Options) -> Result<Captions> {
    if let Some(limit) = options.limit {
        within("--limit", limit, 1, u32::MAX as usize)?;
    }
    let captions = Captions::open(path, options)?;
    for note in &captions.notes {
        say!("{note}");
    }
    for message in &captions.bad {
        say!("skipped {message}");
    }
    if captions.skipped_empty > 0 {
        say!("skipped {} empty lines of {}", captions.skipped_empty, path.display());
    }
    if let Some(last) = captions.list.last()
        && last.id > u64::from(u32::MAX)
    {
        bail!(Data, "{}: more than 2^32 lines; split the file and give each part its own --seed", path.display());
    }
    Ok(captions)
}

/// Initial latents read from a file.
struct Noise {
    /// `[images of the whole run, C, h, w]`
    values: Vec<f32>,
    sha256: String,
}

/// Reads `noise` [images of the whole run, 4, h, w].
fn read_noise(path: &Path, captions: &Captions, config: &Config, pipeline: &Pipeline) -> Result<Noise> {
    let [c, h, w] = pipeline.latent_shape();
    let images = captions.list.len() * config.images_per_caption;
    let file = SafeTensors::open(path)?;
    if file.shape("noise") != Some(&[images, c, h, w]) {
        let found = match file.shape("noise") {
            Some(shape) => format!("`noise` is {shape:?}"),
            None => format!("has no tensor `noise`, but {}", file.names().take(4).collect::<Vec<_>>().join(", ")),
        };
        bail!(
            Data,
            "--initial-noise {}: {found}; expected a tensor `noise` of [{images}, {c}, {h}, {w}]: a row for each of \
             {} captions × {} images, in their order",
            path.display(),
            captions.list.len(),
            config.images_per_caption
        );
    }
    let values = file.f32("noise", &[images, c, h, w])?;
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Ok(Noise { values, sha256: hex(&Sha256::digest(bytes)) })
}

fn identity(
    config: &Config,
    captions: &Captions,
    pipeline: &Pipeline,
    fp8: Option<&CalibrationFile>,
    noise: Option<&Noise>,
) -> Identity {
    Identity {
        model_sha256: pipeline.model_sha256().to_owned(),
        loras: pipeline.loras().to_vec(),
        precision: pipeline.precision(),
        fp8_sha256: fp8.map(|file| file.sha256.clone()),
        caption_list_sha256: identity::caption_list_sha256(&captions.list),
        captions: captions.list.len(),
        captions_read: Some(captions.read.clone()),
        images_per_caption: config.images_per_caption,
        captions_per_shard: config.captions_per_shard(),
        drawing: config.drawing.sized(pipeline.size()),
        store_size: config.store_size,
        format: config.format,
        quality: config.quality,
        initial_noise_sha256: noise.map(|noise| noise.sha256.clone()),
        save_latents: config.save_latents,
        as_diffusers: pipeline.corrected(),
    }
}

fn announce(config: &Config, mine: usize, left: usize) {
    let ranks = config.ranks;
    let done = mine - left;
    let whose = match ranks.source {
        _ if ranks.world_size == 1 => String::new(),
        Some(_) => format!(" of {ranks} (--world-size 1 draws all of them here)"),
        None => format!(" of {ranks}"),
    };
    let resumed = if done > 0 { format!(", {done} already whole") } else { String::new() };
    say!("{mine} shards{whose}{resumed} → {}", config.output.display());
}
