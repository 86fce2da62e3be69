use proptest::prelude::*;

use super::*;

const US: u32 = 100;

fn scope(whom: Whom) -> Scope {
    Scope {
        whom,
        except: Vec::new(),
    }
}

/// What a scope says of a process of this name in these cgroups.
fn admitted(scope: &Scope, name: &str, cgroups: &[&str]) -> Result<(), WhyNot> {
    let cgroups: Vec<String> = cgroups.iter().map(|&path| path.to_owned()).collect();
    let known = Known {
        pid: 7,
        parent: 1,
        name: Name::new(name.as_bytes()),
        cgroups: &cgroups,
        is_kernels: false,
    };
    scope.admit(US, &known)
}

fn named(names: &[&str]) -> Whom {
    Whom::Named(
        names
            .iter()
            .map(|name| Name::new(name.as_bytes()))
            .collect(),
    )
}

#[test]
fn a_name_is_compared_as_far_as_the_kernel_keeps_it() {
    let long = scope(named(&["a-very-long-program-name"]));
    assert_eq!(admitted(&long, "a-very-long-pro", &[]), Ok(()));
    assert_eq!(admitted(&long, "a-very-long-prog", &[]), Ok(()));
    assert_eq!(admitted(&long, "a-very-long-pr", &[]), Err(WhyNot::Others));
    assert_eq!(Name::new(b"sh\0garbage"), Name::new(b"sh"));
    let two = scope(named(&["sh", "cat"]));
    assert_eq!(admitted(&two, "cat", &["/x"]), Ok(()));
    assert_eq!(admitted(&two, "ca", &["/x"]), Err(WhyNot::Others));
}

#[test]
fn a_cgroup_is_itself_and_what_lies_below_in_any_hierarchy() {
    let below = scope(Whom::Cgroup("/a/b".to_owned()));
    for (cgroups, expected) in [
        (&["/a/b"][..], Ok(())),
        (&["/a/b/c"], Ok(())),
        (&["/", "/a/b"], Ok(())),
        (&["/a/bc"], Err(WhyNot::Others)),
        (&["/a"], Err(WhyNot::Others)),
        (&["/x/a/b"], Err(WhyNot::Others)),
        (&[], Err(WhyNot::Others)),
    ] {
        assert_eq!(admitted(&below, "sh", cgroups), expected, "{cgroups:?}");
    }
    let root = scope(Whom::Cgroup("/".to_owned()));
    assert_eq!(admitted(&root, "sh", &["/a"]), Ok(()));
    assert_eq!(admitted(&root, "sh", &["/"]), Ok(()));
}

#[test]
fn a_container_is_known_by_the_first_digits_of_its_id_whoever_runs_it() {
    let id = "0123456789abcdef".repeat(4);
    let wanted = scope(Whom::Container(Id::new("012345").expect("six digits")));
    for path in [
        format!("/system.slice/docker-{id}.scope"),
        format!("/docker/{id}"),
        format!("/kubepods/burstable/pod0f1e/{id}"),
        format!("/kubepods.slice/cri-containerd-{id}.scope"),
        format!("/machine.slice/libpod-{id}.scope/container"),
        format!("/kubepods.slice/crio-{id}.scope"),
    ] {
        assert_eq!(admitted(&wanted, "sh", &[&path]), Ok(()), "{path}");
    }
    let other = format!("/docker/f{}", &id[1..]);
    for path in ["/docker/012345", "/012345", "/", &other] {
        assert_eq!(admitted(&wanted, "sh", &[path]), Err(WhyNot::Others));
    }
    for text in ["01234", "nginx", "", "0123 6", &"0".repeat(65)] {
        assert_eq!(Id::new(text), None, "{text}");
    }
    assert_eq!(Id::new("ABCDEF"), Id::new("abcdef"));
}

#[test]
fn several_containers_that_an_id_may_stand_for_are_told_each_once() {
    let (one, other) = (
        format!("abcdef{}", "0".repeat(58)),
        format!("abcdef{}", "1".repeat(58)),
    );
    let paths = [
        format!("/docker/{one}"),
        format!("/docker/{other}/init.scope"),
        format!("/docker/{one}/app"),
        "/user.slice".to_owned(),
    ];
    let among = |id: &str| {
        Id::new(id)
            .expect("an id")
            .among(paths.iter().map(String::as_str))
    };
    assert_eq!(among("abcdef"), [Id(one), Id(other.clone())]);
    assert_eq!(among("abcdef1"), [Id(other)]);
    assert_eq!(among("abcdef2"), []);
}

#[test]
fn a_unit_may_be_named_without_its_kind_and_lies_anywhere() {
    let nginx = scope(Whom::Unit("nginx".to_owned()));
    for path in [
        "/system.slice/nginx.service",
        "/system.slice/nginx.service/workers",
        "/user.slice/user-0.slice/user@0.service/app.slice/nginx.service",
        "/nginx",
    ] {
        assert_eq!(admitted(&nginx, "sh", &[path]), Ok(()), "{path}");
    }
    for path in [
        "/system.slice/nginx-2.service",
        "/nginx.scope",
        "/my-nginx.service",
    ] {
        assert_eq!(
            admitted(&nginx, "sh", &[path]),
            Err(WhyNot::Others),
            "{path}"
        );
    }
    let whole = scope(Whom::Unit("session-1.scope".to_owned()));
    let path = "/user.slice/user-0.slice/session-1.scope";
    assert_eq!(admitted(&whole, "sh", &[path]), Ok(()));
}

#[test]
fn what_is_left_out_is_left_out_of_every_scope_and_of_what_is_known_by_name_alone() {
    let all = Scope {
        whom: Whom::All,
        except: vec![Name::new(b"cc1")],
    };
    assert_eq!(admitted(&all, "cc1", &[]), Err(WhyNot::LeftOut));
    assert_eq!(admitted(&all, "cc1plus", &[]), Ok(()));
    assert!(!all.may_have_been(&Name::new(b"cc1")));
    assert!(all.may_have_been(&Name::new(b"ld")));
    assert!(!scope(named(&["sh"])).may_have_been(&Name::new(b"ld")));
    assert!(scope(Whom::Unit("x".to_owned())).may_have_been(&Name::new(b"ld")));
}

#[test]
fn scopes_are_told_in_words() {
    let id = Id::new(&"0123456789abcdef".repeat(4)).expect("an id");
    for (whom, words) in [
        (named(&["sh", "cat"]), "processes named sh, cat"),
        (Whom::Cgroup("/a".to_owned()), "cgroup /a"),
        (Whom::Container(id), "container 0123456789ab"),
        (Whom::Unit("nginx".to_owned()), "unit nginx"),
        (Whom::All, "the whole system"),
    ] {
        assert_eq!(whom.to_string(), words);
    }
}

fn whom() -> impl Strategy<Value = Whom> {
    prop_oneof![
        "[a-c]{0,3}".prop_map(|name| Whom::Named(vec![Name::new(name.as_bytes())])),
        "(/[ab]{0,2}){0,3}".prop_map(Whom::Cgroup),
        "[0-9a-f]{6,8}".prop_map(|id| Whom::Container(Id(id))),
        "[a-c]{1,2}(.service)?".prop_map(Whom::Unit),
        Just(Whom::All),
    ]
}

proptest! {
    #[test]
    fn neither_we_nor_our_children_nor_the_kernel_are_ever_followed(
        whom in whom(), name: Vec<u8>, cgroups: Vec<String>, which in 0..3
    ) {
        let known = Known {
            pid: if which == 0 { US } else { 7 },
            parent: if which == 1 { US } else { 1 },
            name: Name::new(&name),
            cgroups: &cgroups,
            is_kernels: which == 2,
        };
        let refused = scope(whom).admit(US, &known);
        prop_assert_eq!(refused, Err(if which == 2 { WhyNot::Kernels } else { WhyNot::Ours }));
    }

    #[test]
    fn what_a_cgroup_holds_is_what_lies_below_it_component_by_component(
        path in "(/[ab]{1,2}){0,4}", above in "(/[ab]{1,2}){0,3}"
    ) {
        let parts = |path: &str| -> Vec<String> {
            path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let expected = parts(&path).starts_with(&parts(&above));
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let found = admitted(&scope(Whom::Cgroup(above)), "sh", &[&path]);
        prop_assert_eq!(found.is_ok(), expected);
    }

    #[test]
    fn who_is_followed_may_have_been_followed(whom in whom(), name: Vec<u8>, cgroups: Vec<String>) {
        let scope = scope(whom);
        let known = Known { pid: 7, parent: 1, name: Name::new(&name), cgroups: &cgroups, is_kernels: false };
        if scope.admit(US, &known).is_ok() {
            prop_assert!(scope.may_have_been(&known.name));
        }
    }
}
