//! How well the classes of pixels are told: mean intersection over union of sliding windows at one scale, as
//! mmsegmentation tests on ADE20k.

pub mod network;
mod score;
mod state;
mod view;
pub mod window;

pub use score::{Beyond, ClassScore, Confusion, Scores};

use std::path::{Path, PathBuf};

use serde::Serialize;

use self::network::Network;
use self::state::State;
use self::view::Prepared;
use crate::bail;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::dataset::Split;
use crate::eval::dataset::scenes::Scenes;
use crate::eval::language::class_names;
use crate::eval::place::Place;
use crate::eval::rows::table;
use crate::image::sheet::contact_sheet;
use crate::image::{Rgb8, encode_png};
use crate::metrics::Progress;
use crate::models::segmenter::HeadKind;
use crate::store;

/// Pictures that are drawn beside what was told of them.
const DRAWN: usize = 8;
/// The picture of these.
const PICTURE: &str = "segmented.png";

/// A run of `stablerep eval segment`.
#[derive(Debug)]
pub struct SegmentConfig {
    pub checkpoint: PathBuf,
    pub device: Device,
    pub data: PathBuf,
    /// A name for every class, a line each.
    pub class_names: Option<PathBuf>,
    /// Pixels between windows; two thirds of their side where absent.
    pub stride: Option<usize>,
    /// Windows that go through the network at once.
    pub windows: usize,
    /// Pictures that are left out as damaged or without annotation; one more is an error.
    pub max_bad: usize,
    pub output: PathBuf,
}

/// Everything that was found and under which settings, without times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SegmentReport {
    pub source: String,
    pub head: HeadKind,
    pub data: String,
    pub images: usize,
    /// Pictures that were left out.
    pub bad: usize,
    /// Side of a window, which is what the short side of a picture becomes too, and pixels between windows.
    pub window: usize,
    pub stride: usize,
    /// Pixels whose numbers are beyond all classes, which are ignored.
    pub pixels_beyond: u64,
    /// What a reader of the figures must know.
    pub remarks: Vec<String>,
    #[serde(flatten)]
    pub scores: Scores,
}

/// Scores the network on every picture, and writes `report.json` and a picture of the first ones. What an interrupted
/// run has counted is gone on with.
///
/// # Errors
/// `Usage` for settings that cannot be used, `Data` or `Io` naming the file, `Diverged` for logits that are not finite,
/// `Interrupted` on a signal, with what was counted saved.
pub fn segment(config: &SegmentConfig) -> Result<SegmentReport> {
    if config.windows == 0 || config.windows > 1024 {
        bail!(Usage, "--windows {}: expected 1 to 1024", config.windows);
    }
    let mut place = Place::of("segment", Some(&config.output), None, &[&config.data])?;
    let scenes = Scenes::open(&config.data, Split::Test)?;
    let mut network = Network::open(&config.checkpoint, config.device, config.windows)?;
    let side = network.vit().image_size;
    let stride = config.stride.unwrap_or((side * 2 / 3).max(1));
    if stride == 0 || stride > side {
        bail!(Usage, "--stride {stride}: expected 1 to {side}, the side of a window");
    }
    let named = |path: &Path| class_names("--class-names", path, network.classes());
    let names = config.class_names.as_deref().map(named).transpose()?.unwrap_or_default();
    let names: Vec<String> = names.iter().map(|of_class| of_class.join(", ")).collect();
    place.take()?;
    let identity = network.identity(&scenes, stride)?;
    let mut state = State::open(&config.output, &identity, network.classes())?;
    state.count_defects(scenes.bad(), config.max_bad)?;
    let (progress, mut drawn) = (Progress::bar(scenes.len() as u64, "pictures", ("picture", 1)), Vec::new());
    progress.resume_at(state.done as u64);
    while state.done < scenes.len() {
        let index = state.done;
        let found = match scenes.scene(index) {
            Ok((image, map)) => Some(of_picture(&mut network, &image, stride)?.ok_or_else(|| {
                Error::Diverged(format!("{}: logits of {} are not finite", network.shown, scenes.shown(index)))
            })?)
            .map(|taken| (image, map, taken)),
            Err(Error::Data(message)) => {
                state.count_bad(&message, config.max_bad)?;
                None
            }
            Err(other) => return Err(other),
        };
        if let Some((image, map, taken)) = found {
            let labels: Vec<u8> = map.data.iter().map(|&number| network.numbered.label(number)).collect();
            state.confusion.add(&labels, &taken);
            state.beyond.add(&map.data, network.numbered, &scenes.shown(index));
            if drawn.len() < DRAWN {
                drawn.push(view::shown(scenes.key(index), &image, &labels, &taken));
            }
        }
        state.done += 1;
        progress.advance(1);
        state.save(&config.output, store::interrupted())?;
        store::check_interrupt("what was counted is saved; run the same command again to go on")?;
    }
    progress.finish();
    let Some(scores) = state.confusion.scores(&names) else {
        bail!(
            Data,
            "{}: no pixel has one of the {} classes, numbered from {} (--first-label of the training)",
            scenes.name(),
            network.classes(),
            network.numbered.first
        );
    };
    let report = SegmentReport {
        source: network.shown.clone(),
        head: network.head,
        data: scenes.name().to_owned(),
        images: state.scored(),
        bad: state.bad,
        window: side,
        stride,
        pixels_beyond: state.beyond.pixels,
        remarks: state.beyond.told(network.numbered).into_iter().collect(),
        scores,
    };
    if !drawn.is_empty() {
        store::write_atomic(
            config.output.join(PICTURE),
            &encode_png(&contact_sheet("Pixels by their classes", &drawn)?)?,
        )?;
    }
    place.write(&report)?;
    State::remove(&config.output)?;
    Ok(report)
}

/// The class of every pixel of a picture; nothing if a logit is not finite.
fn of_picture(network: &mut Network, image: &Rgb8, stride: usize) -> Result<Option<Vec<u8>>> {
    let side = network.vit().image_size;
    let prepared = Prepared::new(image, side)?;
    let mut sums = window::Sums::new(prepared.size(), network.classes());
    let (width, height) = prepared.size();
    let places: Vec<[usize; 2]> = window::places(height, side, stride)
        .into_iter()
        .flat_map(|y| window::places(width, side, stride).into_iter().map(move |x| [x, y]))
        .collect();
    for places in places.chunks(network.windows()) {
        let windows: Vec<Rgb8> = places.iter().map(|&at| prepared.window(at)).collect();
        let logits = network.logits(&windows)?;
        let each = logits.len() / windows.len();
        for (logits, &at) in logits.chunks_exact(each).zip(places) {
            sums.add(logits, at, (network.side(), side));
        }
    }
    Ok(sums.classes((image.width, image.height)))
}

impl SegmentReport {
    /// The table, in Markdown or in aligned columns, under the network that was scored.
    pub fn text(&self, markdown: bool) -> String {
        let percent = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.2}"));
        let mut rows = vec![["class", "IoU %", "accuracy %", "pixels"].map(str::to_owned).to_vec()];
        let Scores { miou, mean_accuracy, pixel_accuracy, pixels, ref classes } = self.scores;
        for class in classes {
            rows.push(vec![class.name.clone(), percent(class.iou), percent(class.accuracy), class.pixels.to_string()]);
        }
        rows.push(vec!["mean".into(), percent(Some(miou)), percent(Some(mean_accuracy)), pixels.to_string()]);
        let bad = if self.bad == 0 { String::new() } else { format!(", {} bad left out", self.bad) };
        let remarks: String = self.remarks.iter().map(|remark| format!("\n{remark}")).collect();
        format!(
            "network  {}\ndata     {} ({} pictures{bad})\nwindows  {}², every {} pixels\npixels told right: \
             {pixel_accuracy:.2} %\n{}{remarks}",
            self.source,
            self.data,
            self.images,
            self.window,
            self.stride,
            table(&rows, 1, markdown)
        )
    }
}
