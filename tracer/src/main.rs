//! tmp
use highwater::probe::*;
fn main(){
    env_logger::init();
    let a: Vec<String> = std::env::args().collect();
    if a.get(1).map(String::as_str)==Some(selftest::VERB){ selftest::child(&a[2..]); }
    let t=std::time::Instant::now();
    let mut k = kernel::Kernel::load(64<<20).unwrap_or_else(|e| panic!("{e}"));
    println!("loaded {:?} memory {}", t.elapsed(), k.memory_bytes());
    k.follow_processes().unwrap_or_else(|e| panic!("{e}"));
    println!("followed {:?}", t.elapsed());
    for kind in link::LinkKind::LADDER { for lg in [false,true] { for sc in [false,true] {
        let t=std::time::Instant::now();
        println!("{kind} leader_gone={lg} seccomp={sc}: {:?} {:?}", selftest::works(&mut k, kind, selftest::Situation{leader_gone:lg, seccomp:sc}), t.elapsed());
    }}}
    for kind in link::LinkKind::LADDER {
      let t=std::time::Instant::now();
      let l = link::Link::place(&mut k, kind, std::path::Path::new("/lib/x86_64-linux-gnu/libc.so.6"), &[link::Site{offset:0x98930,cookie:1,returns:true}], std::num::NonZeroU32::new(std::process::id()).unwrap());
      match l { Ok(l)=>{println!("{kind} ok {:?}", t.elapsed()); let t=std::time::Instant::now(); drop(l); println!("drop {:?}", t.elapsed())}, Err(e)=>println!("{kind} {e}") }
    }
}
