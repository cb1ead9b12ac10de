//! `stablerep bench train --plan`: what of a card's memory a run takes, and what an update costs, without the card.

use serde_json::{Value, json};

use super::table::{cells, flop};
use super::train::held;
use crate::device::human_bytes;
use crate::error::Result;
use crate::train::rehearsal::{self, Flops, Planned};
use crate::train::{Activations, Recipe};

/// Plans `recipe` for cards with so many bytes free each, `print`ing as it goes; returns everything as JSON.
///
/// # Errors
/// Usage error for a recipe that cannot be run, or has no kernels.
pub fn plan(recipe: &Recipe, activations: Activations, free: &[u64], print: &mut dyn FnMut(String)) -> Result<Value> {
    let (name, images) = (recipe.model.timm_name().unwrap_or_else(|| "custom ViT".into()), recipe.images_per_step());
    print(format!(
        "{name}, {images} images an update{}, on a card of compute capability 9.0 with 132 multiprocessors (H100 SXM, \
         H200); the driver is left 512 MiB of what is free.",
        match recipe.rows_per_step() - images {
            0 => String::new(),
            small => format!(" and {small} small crops"),
        }
    ));
    let flops = Flops::of(recipe)?;
    print(format!("An update: {}, three times the forwards, and the loss.", flop(flops.update())));
    print(String::new());
    print("| free | activations held | forward twice | FLOP with that | plan | fits |".into());
    print("|--:|---|--:|--:|--:|---|".into());
    let mut plans = Vec::new();
    for &free in free {
        let mut recipe = recipe.clone();
        let Planned { plan, bytes, fits } = rehearsal::plan(&mut recipe, activations, free)?;
        let twice = images - recipe.chunk.unwrap_or(images);
        let fit = if fits { "yes" } else { "no" };
        // Methods whose losses look at one image at a time run nothing twice.
        let times = 1.0 + Flops::of(&recipe)?.again / flops.update();
        let cost = format!("{times:.2} times");
        print(cells([human_bytes(free), held(&recipe), twice.to_string(), cost, human_bytes(bytes), fit.to_owned()]));
        let row = json!({
            "free_bytes": free,
            "chunk": recipe.chunk,
            "recompute": recipe.recompute,
            "times_flops": times,
            "planned_bytes": bytes,
            "fits": fits,
        });
        plans.push((plan, row));
    }
    for (plan, _) in &plans {
        print(String::new());
        print(plan.to_string());
    }
    let plans: Vec<Value> = plans.into_iter().map(|(_, plan)| plan).collect();
    Ok(json!({ "model": name, "images_per_update": images, "flops_per_update": flops.update(), "plans": plans }))
}
