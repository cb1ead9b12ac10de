use stablerep::ops::clip::clip;

/// Each tensor has a norm of its own: one is cut to it, one is short enough, one is nothing.
#[test]
fn every_tensor_is_cut_by_itself() {
    let mut g = [3.0f32, 4.0, 0.3, -0.4, 0.0, 0.0, 30.0];
    clip(&mut g, &[0..2, 2..4, 4..6, 6..7], 1.0);
    for (got, want) in g.iter().zip([0.6, 0.8, 0.3, -0.4, 0.0, 0.0, 1.0]) {
        assert!((got - want).abs() < 1e-5, "{g:?}");
    }
    assert_eq!(&g[2..6], [0.3, -0.4, 0.0, 0.0], "what is short enough stays to the bit");
}
