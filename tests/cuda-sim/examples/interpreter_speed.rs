//! Lane instructions per second of one core on scalar code: `cargo run --release -p cuda-sim --example
//! interpreter_speed`.
//!
//! A strided reduction: each thread sums `x[i]²` over a grid-stride loop, eight instructions a turn, one of them a
//! load.

use std::time::Instant;

use cuda_sim::device::DeviceModel;
use cuda_sim::exec::{Launch, Options, launch};
use cuda_sim::memory::DeviceMemory;
use cuda_sim::ptx::Module;

const KERNEL: &str = "
.version 9.0
.target sm_90a
.address_size 64
.visible .entry squares(.param .u64 p_x, .param .u64 p_out, .param .u32 p_n)
{
	.reg .pred %p<3>;
	.reg .f32 %f<4>;
	.reg .b32 %r<9>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [p_x];
	ld.param.u64 %rd2, [p_out];
	ld.param.u32 %r1, [p_n];
	mov.u32 %r2, %ctaid.x;
	mov.u32 %r3, %ntid.x;
	mov.u32 %r4, %tid.x;
	mad.lo.s32 %r5, %r2, %r3, %r4;
	mov.u32 %r6, %nctaid.x;
	mul.lo.s32 %r7, %r6, %r3;
	mov.u32 %r8, %r5;
	mov.f32 %f1, 0f00000000;
$L__loop:
	setp.ge.s32 %p1, %r8, %r1;
	@%p1 bra $L__done;
	mul.wide.s32 %rd3, %r8, 4;
	add.s64 %rd4, %rd1, %rd3;
	ld.global.f32 %f2, [%rd4];
	fma.rn.f32 %f1, %f2, %f2, %f1;
	add.s32 %r8, %r8, %r7;
	bra.uni $L__loop;
$L__done:
	mul.wide.s32 %rd5, %r5, 4;
	add.s64 %rd6, %rd2, %rd5;
	st.global.f32 [%rd6], %f1;
	ret;
}
";

fn main() {
    let module = Module::parse(KERNEL).expect("the kernel above");
    let memory = DeviceMemory::new(1 << 30);
    let n = 1 << 22;
    let x = memory.alloc(4 * n, 256).expect("memory");
    memory.write(x, &1f32.to_le_bytes().repeat(n)).expect("a fresh allocation");
    let (grid, block) = (64u32, 256u32);
    let out = memory.alloc((4 * grid * block) as usize, 256).expect("memory");
    let mut params = Vec::new();
    params.extend_from_slice(&x.to_le_bytes());
    params.extend_from_slice(&out.to_le_bytes());
    params.extend_from_slice(&(n as u32).to_le_bytes());
    let device = DeviceModel::h200();
    for threads in [1, std::thread::available_parallelism().map_or(1, |n| n.get())] {
        let options = Options { threads, ..Options::default() };
        let run = || {
            launch(&Launch {
                kernel: &module.kernels[0],
                grid: [grid, 1, 1],
                block: [block, 1, 1],
                cluster: [1; 3],
                dynamic_shared: 0,
                params: &params,
                memory: &memory,
                device: &device,
                options: &options,
            })
        };
        run().unwrap_or_else(|finding| panic!("{finding}"));
        let start = Instant::now();
        let stats = run().unwrap_or_else(|finding| panic!("{finding}"));
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{threads} thread(s): {} lane instructions in {seconds:.3} s, {:.0} M/s/thread",
            stats.lane_instructions,
            stats.lane_instructions as f64 / seconds / 1e6 / threads as f64
        );
    }
}
