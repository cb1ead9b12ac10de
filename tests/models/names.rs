use stablerep::models::vit::BackboneNames;

/// timm's names of a plain ViT with two blocks.
fn timm() -> Vec<String> {
    let mut names: Vec<String> =
        ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"]
            .map(String::from)
            .to_vec();
    for block in 0..2 {
        for layer in ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"] {
            names.push(format!("blocks.{block}.{layer}.weight"));
            names.push(format!("blocks.{block}.{layer}.bias"));
        }
    }
    names
}

fn find(names: &[String]) -> stablerep::error::Result<BackboneNames> {
    BackboneNames::find(&names.iter().map(String::as_str).collect::<Vec<_>>(), "weights.safetensors")
}

#[test]
fn names_map_both_ways_under_every_prefix() {
    for prefix in ["", "visual.", "module.visual.", "module.", "backbone.", "state_dict._orig_mod."] {
        let mut names: Vec<String> = timm().iter().map(|name| format!("{prefix}{name}")).collect();
        let beside = prefix.strip_suffix("visual.").unwrap_or(prefix);
        for other in ["image_mlp.layer1.weight", "image_mlp.bn1.running_mean", "head.weight", "head.bias"] {
            names.push(format!("{beside}{other}"));
        }
        let found = find(&names).unwrap();
        assert_eq!((found.prefix(), found.depth()), (prefix, 2));
        let mut listed: Vec<String> = found.timm_names().collect();
        for name in timm() {
            let in_file = found.in_file(&name);
            assert!(names.contains(&in_file), "{in_file}");
            assert_eq!(found.timm(&in_file).as_ref(), Some(&name));
        }
        for other in &names[timm().len()..] {
            assert_eq!(found.timm(other), None, "{other}");
        }
        let mut all = timm();
        listed.sort();
        all.sort();
        assert_eq!(listed, all);
    }
}

#[test]
fn text_tower_and_moments_beside_the_backbone_are_left_alone() {
    let mut names: Vec<String> = timm().iter().map(|name| format!("visual.{name}")).collect();
    names.extend(timm().iter().map(|name| format!("adam.m.visual.{name}")));
    names.extend(timm().iter().map(|name| format!("momentum.visual.{name}")));
    names.extend(["token_embedding.weight", "transformer.resblocks.0.ln_1.weight", "logit_scale"].map(String::from));
    assert_eq!(find(&names).unwrap().prefix(), "visual.");
}

/// What is in files of some authors alone.
#[test]
fn parts_that_not_every_vit_has() {
    let whole = |more: &[&str]| {
        let scales = (0..2).flat_map(|i| [1, 2].map(|j| format!("blocks.{i}.ls{j}.gamma")));
        timm().into_iter().chain(scales).chain(more.iter().map(|name| name.to_string())).collect::<Vec<_>>()
    };
    for registers in ["reg_token", "register_tokens"] {
        let names = whole(&[registers, "mask_token"]);
        let found = find(&names).unwrap();
        assert_eq!(
            (found.timm(registers).as_deref(), found.in_file("reg_token").as_str()),
            (Some("reg_token"), registers)
        );
        assert_eq!(found.timm_names().count(), names.len() - 1);
    }
    let clips =
        BackboneNames::find(&["visual.class_embedding", "visual.conv1.weight"], "weights.safetensors").unwrap_err();
    assert!(clips.to_string().contains("no blocks (`visual.transformer.resblocks.0.…`)"), "{clips}");
    // Of a network and the copy that follows it, the network.
    let both = ["module.base_encoder.", "module.momentum_encoder."];
    let names: Vec<String> =
        both.iter().flat_map(|before| timm().into_iter().map(move |name| format!("{before}{name}"))).collect();
    assert_eq!(find(&names).unwrap().prefix(), "module.base_encoder.");
}

#[test]
fn what_is_no_vit_that_is_read_is_named() {
    let refuse = |names: Vec<String>, parts: &[&str]| {
        let error = find(&names).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        for part in [&["weights.safetensors"], parts].concat() {
            assert!(error.to_string().contains(part), "{error}");
        }
    };
    refuse(vec!["conv1.weight".into(), "fc.bias".into()], &["no ViT among its 2 tensors", "cls_token"]);
    refuse(vec![], &["no ViT among its 0 tensors"]);
    let without = |gone: &str| timm().into_iter().filter(|name| name != gone).collect::<Vec<_>>();
    refuse(without("blocks.0.attn.qkv.bias"), &["blocks.0.attn.qkv.bias"]);
    refuse(without("pos_embed"), &["pos_embed"]);
    refuse(timm().into_iter().filter(|name| !name.starts_with("blocks.0.")).collect(), &["blocks.0.norm1.weight"]);
    refuse(timm().into_iter().filter(|name| !name.starts_with("blocks.")).collect(), &["no blocks"]);
    let with = |extra: &str| [timm(), vec![extra.into()]].concat();
    refuse(with("blocks.1.ls1.gamma"), &["blocks.0.ls1.gamma"]);
    refuse(with("blocks.1.gamma_1"), &["blocks.1.gamma_1", "layer scale by these names"]);
    refuse(with("blocks.1.mlp.w12.weight"), &["blocks.1.mlp.w12.weight", "SwiGLU"]);
    refuse(with("blocks.99999999999.norm1.weight"), &["no ViT that is read here"]);
    refuse(with("blocks.01.norm1.weight"), &["blocks.01.norm1.weight", "no ViT that is read here"]);
    refuse(with("norm_pre.weight"), &["norm_pre.bias"]);
    refuse(with("logit_scale"), &["logit_scale", "no ViT that is read here"]);
    refuse(with("blocks.0.attn.q_norm.weight"), &["blocks.0.attn.q_norm.bias"]);
    refuse(with("blocks.0.attn.norm.weight"), &["blocks.0.attn.norm.weight", "no ViT that is read here"]);
    refuse(without("cls_token"), &["patch_embed.proj.weight", "without a `cls_token`"]);
    refuse(vec!["vit.embeddings.cls_token".into()], &["vit.embeddings.cls_token", "transformers"]);
    refuse(with("fc_norm.weight"), &["fc_norm.weight"]);
    let both = [timm(), timm().iter().map(|name| format!("visual.{name}")).collect()].concat();
    refuse(both, &["several ViTs"]);
}
