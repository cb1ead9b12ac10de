//! Layers of feature maps against PyTorch (tests/fixtures/maps.safetensors), as a walk on the CPU calls them.

use std::path::Path;

use stablerep::device::Plan;
use stablerep::layers::training::cpu::{Call, Memory};
use stablerep::layers::training::{BatchNorm, Buffer, Kind, Layers, Layout, Linear, Losses, Maps, Numbers, PixelLoss};
use stablerep::ops::{bilinear, drop_channels, grid_pool, linear, max_pool, neighbourhood, pixel_loss, spread};
use stablerep::weights::{Param, SafeTensors};

use crate::support::{assert_close, random, wide};

const FILE: &str = "tests/fixtures/maps.safetensors";

/// The tensors of one case, and a call over those that it is given.
struct Case {
    file: SafeTensors,
    name: String,
    layout: Layout,
    memory: Memory,
}

impl Case {
    fn new(name: &str) -> Self {
        let file = SafeTensors::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap();
        Self { file, name: name.into(), layout: Layout::default(), memory: Memory::default() }
    }

    fn want(&self, what: &str) -> Vec<f64> {
        let name = format!("{}.{what}", self.name);
        self.file.f64(&name, self.file.shape(&name).unwrap()).unwrap()
    }

    fn values(&self, what: &str) -> Vec<f32> {
        self.want(what).into_iter().map(|value| value as f32).collect()
    }

    /// Room for as many values as `what` has.
    fn room(&mut self, what: &str) -> Buffer {
        let len = self.want(what).len();
        self.layout.take("maps", what, len, Kind::Exact)
    }

    /// All buffers taken, full of what no layer may leave there, and `filled` ones of the file's values.
    fn fill(&mut self, filled: &[(Buffer, &str)]) {
        self.memory = Memory::take(&mut Plan::new(), &self.layout);
        for (buffer, what) in filled {
            let values = self.values(what);
            self.memory.of_mut(*buffer).copy_from_slice(&values);
        }
    }

    fn close(&self, got: Buffer, what: &str) {
        assert_close(&format!("{} {what}", self.name), self.memory.read(got), &self.want(what), 2e-6);
    }
}

/// The names of the file's cases of `layer`, with the numbers behind it.
fn cases(layer: &str) -> Vec<(String, Vec<usize>)> {
    let file = SafeTensors::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap();
    let mut all: Vec<String> = file
        .names()
        .filter_map(|name| Some(name.rsplit_once('.')?.0.to_owned()))
        .filter(|name| name.split('.').next() == Some(layer))
        .collect();
    all.sort();
    all.dedup();
    assert!(!all.is_empty(), "{layer} has no cases");
    let numbers = |name: &str| name.split('.').skip(1).map(|number| number.parse().unwrap()).collect();
    all.into_iter().map(|name| (name.clone(), numbers(&name))).collect()
}

#[test]
fn neighbourhoods_make_convolutions() {
    for (name, numbers) in cases("convolution") {
        let shape = neighbourhood::Shape { n: 2, side: numbers[0], c: 4 };
        let ([_, rows], mut case) = (shape.lens(), Case::new(&name));
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|what| case.room(what));
        let around = case.layout.take("maps", "around", rows, Kind::Exact);
        case.fill(&[(x, "x"), (dy, "dy")]);
        let w = case.values("w");
        let (at, product) =
            (Param { offset: 0, len: w.len() }, linear::Shape { rows: rows / 36, inputs: 36, outputs: 3 });
        let mut grads = vec![0.0; w.len()];
        let mut call = Call { grads: &mut grads, ..Call::new(&mut case.memory, &w) };
        let linear = Linear { w: at, b: None };
        call.neighbourhoods(around, x, shape).unwrap();
        call.linear(y, around, linear, product).unwrap();
        call.weight_gradient(dy, around, linear, product).unwrap();
        call.input_gradient(around, dy, at, product).unwrap();
        call.neighbourhoods_backward(dx, around, shape).unwrap();
        case.close(y, "y");
        case.close(dx, "dx");
        assert_close(&name, &grads, &case.want("dw"), 2e-6);
    }
}

#[test]
fn spread_products_make_transposed_convolutions() {
    for (name, numbers) in cases("transposed") {
        let (side, mut case) = (numbers[0], Case::new(&name));
        let shape = spread::Shape { n: 2, side, c: 5 };
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|what| case.room(what));
        let rows = case.layout.take("maps", "rows", shape.len(), Kind::Exact);
        case.fill(&[(x, "x"), (dy, "dy")]);
        let params = [case.values("w"), case.values("b")].concat();
        let product = linear::Shape { rows: 2 * side * side, inputs: 4, outputs: 20 };
        let (w, b) = (Param { offset: 0, len: 80 }, Param { offset: 80, len: 5 });
        // Gradients are added to.
        let mut grads = vec![1.0; params.len()];
        let mut call = Call { grads: &mut grads, ..Call::new(&mut case.memory, &params) };
        let linear = Linear { w, b: None };
        call.linear(rows, x, linear, product).unwrap();
        call.spread(y, rows, Some(b), shape).unwrap();
        call.spread_backward(rows, dy, Some(b), shape).unwrap();
        call.weight_gradient(rows, x, linear, product).unwrap();
        call.input_gradient(dx, rows, w, product).unwrap();
        case.close(y, "y");
        case.close(dx, "dx");
        let want: Vec<f64> = [case.want("dw"), case.want("db")].concat().iter().map(|value| 1.0 + value).collect();
        assert_close(&name, &grads, &want, 2e-6);
    }
}

/// As they are; and as columns of others from behind other rows, added to what is there.
#[test]
fn resized_maps_and_their_gradients() {
    for (name, numbers) in cases("resized") {
        let shape = bilinear::Shape { n: 2, lead: 0, from: numbers[0], to: numbers[1], c: 3, column: 0, columns: 3 };
        let mut case = Case::new(&name);
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|what| case.room(what));
        case.fill(&[(x, "x"), (dy, "dy")]);
        let mut call = Call::new(&mut case.memory, &[]);
        call.resize(y, x, shape, false).unwrap();
        call.resize_backward(dx, dy, shape, false).unwrap();
        case.close(y, "y");
        case.close(dx, "dx");

        let beside = bilinear::Shape { lead: 2, column: 1, columns: 5, ..shape };
        let (rows, [before, behind]) = (beside.rows() * 3, beside.lens());
        // Behind two rows of each image; in columns 1 to 3 of 5.
        let behind_others = |map: &[f32], others: &[f32]| -> Vec<f32> {
            let images = others.chunks(rows).zip(map.chunks(rows - 6));
            images.flat_map(|(others, map)| [&others[..6], map].concat()).collect()
        };
        let among_others = |map: &[f32], others: &[f32]| -> Vec<f32> {
            let pixels = others.chunks(5).zip(map.chunks(3));
            pixels.flat_map(|(others, map)| [&others[..1], map, &others[4..]].concat()).collect()
        };
        let (others, there) = (random(before, 1), random(behind, 2));
        let mut got = there.clone();
        bilinear::forward(&mut got, &behind_others(&case.values("x"), &others), beside, false);
        assert_close(&name, &got, &wide(&among_others(&case.values("y"), &there)), 2e-6);
        bilinear::forward(&mut got, &behind_others(&case.values("x"), &others), beside, true);
        let twice: Vec<f32> = case.values("y").iter().map(|value| 2.0 * value).collect();
        assert_close(&name, &got, &wide(&among_others(&twice, &there)), 2e-6);

        let (dy, mut got) = (among_others(&case.values("dy"), &there), others.clone());
        bilinear::backward(&mut got, &dy, beside, false);
        assert_close(&name, &got, &wide(&behind_others(&case.values("dx"), &vec![0.0; before])), 2e-6);
        got.copy_from_slice(&others);
        bilinear::backward(&mut got, &dy, beside, true);
        let none = vec![0.0; before];
        let added = behind_others(&case.values("dx"), &none);
        let want: Vec<f64> = wide(&others).iter().zip(wide(&added)).map(|(others, dx)| others + dx).collect();
        assert_close(&name, &got, &want, 2e-6);
    }
}

#[test]
fn grids_of_means_and_their_gradients() {
    for (name, numbers) in cases("pooled") {
        let shape = grid_pool::Shape { n: 2, side: numbers[0], bins: numbers[1], c: 3 };
        let mut case = Case::new(&name);
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|what| case.room(what));
        case.fill(&[(x, "x"), (dy, "dy")]);
        case.memory.of_mut(dx).fill(1.0);
        let mut call = Call::new(&mut case.memory, &[]);
        call.grid_pool(y, x, shape).unwrap();
        call.grid_pool_backward(dx, dy, shape).unwrap();
        case.close(y, "y");
        // Added to what was there.
        let want: Vec<f64> = case.want("dx").iter().map(|value| 1.0 + value).collect();
        assert_close(&name, case.memory.read(dx), &want, 2e-6);
    }
}

#[test]
fn the_first_of_equal_pixels_has_the_gradient() {
    for (name, numbers) in cases("largest") {
        let (shape, mut case) = (max_pool::Shape { n: 2, side: numbers[0], c: 3 }, Case::new(&name));
        let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|what| case.room(what));
        case.fill(&[(x, "x"), (dy, "dy")]);
        case.memory.of_mut(dx).fill(f32::NAN);
        let mut call = Call::new(&mut case.memory, &[]);
        call.max_pool(y, x, shape).unwrap();
        call.max_pool_backward(dx, dy, x, shape).unwrap();
        case.close(y, "y");
        case.close(dx, "dx");
    }
}

#[test]
fn batch_norm_by_running_statistics() {
    let mut case = Case::new("normed");
    let [x, y] = ["x", "y"].map(|what| case.room(what));
    case.fill(&[(x, "x")]);
    let (params, mut statistics) = ([case.values("w"), case.values("b")].concat(), case.values("mean"));
    statistics.extend(case.values("var"));
    let before = statistics.clone();
    let halves = [0, 4].map(|offset| Param { offset, len: 4 });
    for relu in [false, true] {
        let norm = BatchNorm { affine: Some(halves), running: halves, slots: 1, relu };
        let mut call = Call { statistics: &mut statistics, ..Call::new(&mut case.memory, &params) };
        call.batch_norm_infer(y, x, norm).unwrap();
        case.close(y, if relu { "relu" } else { "y" });
    }
    assert_eq!(statistics, before, "running statistics moved");
}

#[test]
fn the_loss_of_enlarged_logits() {
    for (name, numbers) in cases("loss") {
        let (from, to, mut case) = (numbers[0], numbers[1], Case::new(&name));
        let weight: f32 = case.file.metadata("weight").unwrap().parse().unwrap();
        let [x, d, lse, losses] = ["x", "dx", "lse", "losses"].map(|what| case.room(what));
        case.fill(&[(x, "x")]);
        case.memory.of_mut(d).fill(f32::NAN);
        case.memory.of_mut(losses).fill(0.5);
        let shape_of_labels = [2, to, to];
        let labels = case.file.i64(&format!("{name}.labels"), &shape_of_labels).unwrap();
        // Labels lie behind other numbers.
        let numbers: Vec<u32> = [7, 7, 7].into_iter().chain(labels.iter().map(|&label| label as u32)).collect();
        let shape = pixel_loss::Shape { n: 2, of: 3, from, to, classes: x.len() / (2 * from * from) };
        let run = Numbers { start: 3, len: labels.len() };
        for add in [false, true] {
            let mut call = Call { numbers: &numbers, ..Call::new(&mut case.memory, &[]) };
            call.pixel_loss(d, losses, lse, x, run, PixelLoss { shape, weight, add }).unwrap();
            call.mean_loss(losses).unwrap();
            let (loss, times) = (call.loss, if add { 2.0 } else { 1.0 });
            let want: Vec<f64> = case.want("losses").iter().map(|loss| times * loss).collect();
            assert_close(&name, case.memory.read(losses), &want, 2e-6);
            let mean = want.iter().sum::<f64>() / want.len() as f64;
            assert!((loss - mean).abs() < 2e-6 * mean, "{name}: {loss} {mean}");
            case.close(lse, "lse");
            case.close(d, "dx");
        }
    }
}

#[test]
fn channels_are_left_out_whole() {
    let shape = drop_channels::Shape { n: 2, pixels: 3, c: 4 };
    let (before, kept) = (random(shape.len(), 5), [1, 0, 1, 1, 0, 0, 1, 5]);
    let mut layout = Layout::default();
    let x = layout.take("maps", "x", shape.len(), Kind::Exact);
    let mut memory = Memory::take(&mut Plan::new(), &layout);
    memory.of_mut(x).copy_from_slice(&before);
    let mut call = Call { numbers: &kept, ..Call::new(&mut memory, &[]) };
    call.drop_channels(x, Numbers { start: 0, len: 8 }, 1.5, shape).unwrap();
    for (i, (&got, before)) in memory.read(x).iter().zip(before).enumerate() {
        let kept = kept[i / 12 * 4 + i % 4] != 0;
        assert_eq!(got, if kept { 1.5 * before } else { 0.0 }, "value {i}");
    }
}
