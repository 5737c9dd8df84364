//! What a decision by roles costs, among few and many policies.
//!
//! `cargo bench -p onlyonce-benches --bench pipeline_roles`
//!
//! "one role" has all policies; "many roles" have a hundred each. "casbin" is the crate's own scan
//! of the same policies. Each asks for what the last policy allows, and for what none does.

mod cpu;

use std::hint::black_box;

use casbin::{CoreApi as _, DefaultModel, Enforcer, MemoryAdapter, MgmtApi as _};
use cpu::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use onlyonce_pipeline::auth::Roles;
use tokio::runtime::Builder;

criterion_group! {
    name = benches;
    config = cpu::criterion();
    targets = decisions
}
criterion_main!(benches);

const SIZES: [usize; 2] = [100, 10_000];
/// casbin's scan of ten thousand would take the bench an hour.
const MOST_FOR_CASBIN: usize = 100;

fn decisions(criterion: &mut Criterion<CpuTime>) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("{size} policies"));
        for (name, roles) in [("one role", 1), ("many roles", size.div_ceil(100))] {
            let text = policy(size, roles);
            let ours = Roles::new(text.parse().expect("the policy is sound"));
            let role = format!("role{}", (size - 1) % roles);
            let allowed = format!("/admin/part{}/items/7", size - 1);
            for (what, path) in [
                ("allowed", allowed.as_str()),
                ("denied", "/admin/nowhere/7"),
            ] {
                assert_eq!(ours.allows(&role, path, "GET"), what == "allowed");
                group.bench_function(format!("{name}, {what}"), |bencher| {
                    bencher.iter(|| black_box(ours.allows(&role, black_box(path), "GET")));
                });
            }
            if size > MOST_FOR_CASBIN || roles > 1 {
                continue;
            }
            let casbin = casbin_of(&text);
            group.bench_function(format!("{name}, allowed, by casbin"), |bencher| {
                bencher.iter(|| {
                    let asked = (role.as_str(), black_box(allowed.as_str()), "GET");
                    casbin.enforce(asked).expect("it decides")
                });
            });
        }
        group.finish();
    }
}

fn policy(size: usize, roles: usize) -> String {
    (0..size)
        .map(|number| {
            let role = number % roles;
            format!("p, role{role}, /admin/part{number}/items/*, (GET)|(POST)\n")
        })
        .collect()
}

fn casbin_of(text: &str) -> Enforcer {
    let runtime = Builder::new_current_thread().build();
    let building = async {
        let model = DefaultModel::from_str(Roles::MODEL).await?;
        let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
        for line in text.lines() {
            let fields = line.split(", ").skip(1).map(str::to_owned);
            enforcer.add_policy(fields.collect()).await?;
        }
        Ok::<_, casbin::Error>(enforcer)
    };
    let runtime = runtime.expect("a runtime can be started");
    runtime.block_on(building).expect("the policy is sound")
}
