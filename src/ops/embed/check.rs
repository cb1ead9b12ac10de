//! Text embeddings, their gradients and the choice of a token against the CPU op.

use half::{bf16, f16};

use crate::device::cuda::Half;
use crate::error::Result;
use crate::ops::check::{Case, Check, Checks, Tolerance};
use crate::ops::embed::cuda::{self, text};
use crate::ops::embed::{self, Places};

pub const CHECKS: Checks = Checks::quick(&[
    Check { name: "embed text f16", run: |case| compare::<f16>(case) },
    Check { name: "embed text bf16", run: |case| compare::<bf16>(case) },
    Check { name: "embed text, backward", run: backward },
    Check { name: "pick a token of each text", run: choice },
]);

/// One token, lengths about a block's, CLIP's own; the first and the last word of the vocabulary among others.
fn compare<T: Half>(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (texts, tokens, d, vocabulary) in [(1, 1, 8, 1), (3, 77, 64, 101), (1, 33, 64, 7), (2, 77, 768, 50)] {
        let (token, tokens_table) = case.half::<T>(&case.normal("token", vocabulary * d, 1.0))?;
        let (position, positions) = case.half::<T>(&case.normal("position", tokens * d, 1.0))?;
        let mut stream = case.stream("ids");
        let mut ids: Vec<u32> = (0..texts * tokens).map(|_| stream.next_u32() % vocabulary as u32).collect();
        ids[0] = vocabulary as u32 - 1;
        let y = gpu.upload(&vec![T::round(f32::NAN); texts * tokens * d])?;
        text(gpu, y.view(), gpu.upload(&ids)?.view(), token.view(), position.view(), (texts, tokens, d))?;
        let want: Vec<T> = (0..texts * tokens * d)
            .map(|i| (ids[i / d] as usize, i / d % tokens, i % d))
            .map(|(id, place, c)| T::round(tokens_table[id * d + c] + positions[place * d + c]))
            .collect();
        case.same(&format!("{texts} texts of {tokens}×{d}"), &gpu.read(y.view())?, &want)?;
    }
    Ok(())
}

/// Ids that come often, once and never; texts of which only the first tokens count; more columns than a block takes.
fn backward(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (texts, tokens, d, vocabulary) in [(1, 1, 8, 1), (5, 7, 64, 9), (3, 77, 520, 300), (40, 5, 24, 3)] {
        let what = format!("{texts} texts of {tokens}×{d}");
        let mut stream = case.stream("ids");
        let ids: Vec<u32> = (0..texts * tokens).map(|_| stream.next_u32() % vocabulary as u32).collect();
        let lengths = (0..texts).map(|text| 1 + text * 3 % tokens);
        let Places { order, ends } = Places::new(&ids, lengths, tokens);
        let (dy, dys) = case.bf16(&case.normal("dy", texts * tokens * d, 1.0))?;
        let (mut token, mut position) = (case.normal("token", vocabulary * d, 1.0), vec![0.5; tokens * d]);
        let (dtoken, dposition) = (case.f32(&token)?, case.f32(&position)?);
        embed::text_backward(&mut token, &mut position, &dys, &ids, (&order, &ends), d);
        let (order, ends) = (gpu.upload(&order)?, gpu.upload(&ends)?);
        let tables = (dtoken.view(), dposition.view());
        cuda::text_backward(gpu, tables, dy.view(), gpu.upload(&ids)?.view(), (order.view(), ends.view()), d)?;
        // The same sums in the same order.
        case.close(&format!("d token of {what}"), &gpu.read(dtoken.view())?, &token, Tolerance::f32())?;
        case.close(&format!("d position of {what}"), &gpu.read(dposition.view())?, &position, Tolerance::f32())?;
    }
    Ok(())
}

fn choice(case: &Case) -> Result<()> {
    let gpu = case.gpu();
    for (texts, tokens, d) in [(1, 1, 8), (5, 7, 64), (3, 77, 520)] {
        let what = format!("{texts} texts of {tokens}×{d}");
        let places: Vec<u32> = (0..texts).map(|text| (text * tokens + (text * 5 + 3) % tokens) as u32).collect();
        let (x, xs) = case.bf16(&case.normal("x", texts * tokens * d, 1.0))?;
        let (dy, dys) = case.bf16(&case.normal("dy", texts * d, 1.0))?;
        let (mut want, mut gradient) = (vec![0.0; texts * d], vec![f32::NAN; texts * tokens * d]);
        embed::pick(&mut want, &xs, &places);
        embed::pick_backward(&mut gradient, &dys, &places);
        let places = gpu.upload(&places)?;
        let (y, dx) = (gpu.upload(&vec![bf16::NAN; want.len()])?, gpu.upload(&vec![bf16::NAN; gradient.len()])?);
        cuda::pick(gpu, y.view(), x.view(), places.view())?;
        case.same(&what, &case.read_bf16(y.view())?, &want)?;
        cuda::pick_backward(gpu, dx.view(), dy.view(), places.view())?;
        case.same(&format!("backward of {what}"), &case.read_bf16(dx.view())?, &gradient)?;
    }
    Ok(())
}
