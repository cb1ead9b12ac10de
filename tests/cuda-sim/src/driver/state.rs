//! What `cuInit` sets up once: settings from the environment, the device, its memory, the report.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::context::Primary;
use super::errors::{CUresult, Outcome, fail, say};
use crate::check::Finding;
use crate::device::DeviceModel;
use crate::exec::Options;
use crate::memory::DeviceMemory;

/// CUDA 13.0, whose PTX ISA is 9.0.
pub const VERSION: i32 = 13_000;

/// How the simulator behaves. [`Settings::from_env`] reads what users set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None`: a machine without a card (`CUDA_SIM_DEVICE=none`).
    pub device: Option<DeviceModel>,
    /// Answer of `cuDriverGetVersion` (`CUDA_SIM_DRIVER_VERSION`).
    pub version: i32,
    /// Device memory (`CUDA_SIM_MEMORY`, bytes).
    pub memory: usize,
    pub options: Options,
    /// How long a stream that was idle stays behind the host when nobody waits for it (`CUDA_SIM_LAG_US`): a host
    /// buffer reused too early is then wrong every time. Each delay is drawn from the upper half of this.
    pub lag: Duration,
    /// Findings are appended here (`CUDA_SIM_REPORT`).
    pub report: Option<PathBuf>,
    /// One JSON line for each launch is appended here (`CUDA_SIM_STATS`).
    pub stats: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: Some(DeviceModel::h200()),
            version: VERSION,
            memory: 2 << 30,
            options: Options::default(),
            lag: Duration::from_millis(10),
            report: None,
            stats: None,
        }
    }
}

impl Settings {
    /// # Errors
    /// The variable whose value is not understood.
    pub fn from_env() -> Result<Self, String> {
        let mut settings = Self::default();
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        settings.device = match std::env::var("CUDA_SIM_DEVICE").as_deref() {
            Ok("none") => None,
            _ => Some(DeviceModel::from_env()?),
        };
        if let Some(version) = number("CUDA_SIM_DRIVER_VERSION")? {
            settings.version = version;
        }
        if let Some(bytes) = number("CUDA_SIM_MEMORY")? {
            settings.memory = bytes;
        }
        if let Some(seed) = number("CUDA_SIM_SEED")? {
            settings.options.seed = seed;
        }
        if let Some(threads) = number::<usize>("CUDA_SIM_THREADS")? {
            settings.options.threads = threads.max(1);
        }
        if let Some(late) = number::<u8>("CUDA_SIM_LATE")? {
            settings.options.late_copies = late != 0;
        }
        if let Some(whole) = number::<u8>("CUDA_SIM_WHOLE_SPANS")? {
            settings.options.whole_spans = whole != 0;
        }
        if let Some(budget) = number("CUDA_SIM_BUDGET")? {
            settings.options.budget = budget;
        }
        if let Some(lag) = number("CUDA_SIM_LAG_US")? {
            settings.lag = Duration::from_micros(lag);
        }
        settings.report = path("CUDA_SIM_REPORT");
        settings.stats = path("CUDA_SIM_STATS");
        settings.options.stats = settings.stats.is_some();
        Ok(settings)
    }
}

fn number<T: std::str::FromStr>(name: &str) -> Result<Option<T>, String> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.trim().parse().map(Some).map_err(|_| format!("{name}={text}: not a number that fits"))
        }
        _ => Ok(None),
    }
}

/// The one simulated card.
pub struct Device {
    pub model: DeviceModel,
    pub memory: DeviceMemory,
    pub primary: Mutex<Primary>,
}

pub struct Driver {
    pub settings: Settings,
    pub device: Option<Device>,
    appending: Mutex<()>,
}

static DRIVER: OnceLock<Driver> = OnceLock::new();
/// `cuInit` was called: settings given by [`start`] do not count as that.
static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// Sets the driver up with `settings` in place of the environment's; for tests, before their `cuInit`.
///
/// # Errors
/// The driver is already set up.
pub fn start(settings: Settings) -> Result<(), &'static str> {
    DRIVER.set(Driver::new(settings)).map_err(|_| "the driver is already set up")
}

/// `cuInit`.
pub fn initialize() -> Outcome {
    if DRIVER.get().is_none() {
        match Settings::from_env() {
            // A second thread may have been first: its driver stays.
            Ok(settings) => drop(DRIVER.set(Driver::new(settings))),
            Err(text) => return fail(CUresult::INVALID_VALUE, text),
        }
    }
    INITIALIZED.store(true, Ordering::Release);
    super::exit::at_exit();
    match driver()?.device {
        Some(_) => Ok(()),
        None => Err(CUresult::NO_DEVICE.into()),
    }
}

/// # Errors
/// `CUDA_ERROR_NOT_INITIALIZED` before `cuInit`.
pub fn driver() -> Outcome<&'static Driver> {
    match DRIVER.get() {
        Some(driver) if INITIALIZED.load(Ordering::Acquire) => Ok(driver),
        _ => fail(CUresult::NOT_INITIALIZED, "before cuInit"),
    }
}

/// The settings, whether or not `cuInit` was called.
pub fn version() -> Result<i32, String> {
    DRIVER.get().map_or_else(|| Settings::from_env().map(|s| s.version), |driver| Ok(driver.settings.version))
}

/// # Errors
/// `CUDA_ERROR_INVALID_DEVICE` for any but the first.
pub fn device(ordinal: i32) -> Outcome<&'static Device> {
    match &driver()?.device {
        Some(device) if ordinal == 0 => Ok(device),
        _ => fail(CUresult::INVALID_DEVICE, format!("no device {ordinal}")),
    }
}

impl Driver {
    fn new(settings: Settings) -> Self {
        let device = settings.device.clone().map(|mut model| {
            model.total_memory = settings.memory;
            Device { memory: DeviceMemory::new(settings.memory), model, primary: Mutex::default() }
        });
        Self { settings, device, appending: Mutex::new(()) }
    }

    /// Prints the finding and appends it to the report.
    pub fn report(&self, finding: &Finding) {
        let _ = writeln!(std::io::stderr().lock(), "{finding}");
        if let Some(path) = &self.settings.report {
            self.append(path, &format!("{finding}\n"));
        }
    }

    /// Appends to `CUDA_SIM_STATS`.
    pub fn record(&self, line: impl FnOnce() -> String) {
        if let Some(path) = &self.settings.stats {
            self.append(path, &line());
        }
    }

    fn append(&self, path: &PathBuf, text: &str) {
        let _alone = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let written =
            OpenOptions::new().create(true).append(true).open(path).and_then(|mut f| f.write_all(text.as_bytes()));
        if let Err(error) = written {
            say(format_args!("{}: {error}", path.display()));
        }
    }
}
