//! What is compared.

/// How a row's cells are computed.
pub enum Kind {
    /// `spvit run` with these settings.
    Run,
    /// The same of the whole model, whatever the budget.
    Dense,
    /// The best of five such runs after one epoch, by validation, fine-tuned.
    BestOfFive,
    /// Torch-Pruning in PyTorch, with this importance, on these parts, fine-tuned there.
    TorchPruning { importance: &'static str, what: &'static str },
    /// The hidden dimensions that Torch-Pruning keeps, cut from the dense model and fine-tuned here.
    Carried { importance: &'static str },
}

/// A row of the table.
pub struct Row {
    /// In the table and in `--only`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    pub kind: Kind,
    /// Besides the configuration's.
    pub settings: &'static [&'static str],
    /// Whether it is a rival, or a part of the method taken away.
    pub group: Group,
    /// Whether `--quick` computes it.
    pub quick: bool,
}

/// Where a row stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Own,
    Rival,
    Ablation,
}

/// No search: an order of the hidden dimensions, attention where the row says, dense weights.
macro_rules! cut {
    ($start:literal, $($operation:literal),*) => {
        &[
            "search.epochs=0",
            "search.heads=false",
            concat!("search.start=", $start),
            concat!("search.operations=[", $("\"", $operation, "\",",)* "]"),
            "finetune.init=dense",
            "finetune.refit=0",
        ]
    };
}

/// The paper's search: two epochs, all thresholds alike, λ, and what else is given.
macro_rules! published {
    ($init:literal $(, $more:literal)*) => {
        &[
            "search.epochs=2",
            "search.start=constant",
            "search.projected=false",
            "search.heads=false",
            "search.budget_fall=0",
            concat!("finetune.init=", $init),
            "finetune.refit=0",
            $($more,)*
        ]
    };
}

const fn row(name: &'static str, about: &'static str, settings: &'static [&'static str]) -> Row {
    Row { name, about, kind: Kind::Run, settings, group: Group::Rival, quick: false }
}

/// All rows, in the table's order.
pub const ROWS: &[Row] = &[
    Row { group: Group::Own, quick: true, ..row("spvit", "this project's defaults", &[]) },
    Row {
        group: Group::Own,
        kind: Kind::Dense,
        ..row("dense, trained on", "the same training without a cut", cut!("uniform", "msa"))
    },
    Row {
        group: Group::Own,
        ..row(
            "the paper's search",
            "constant thresholds, λ, weights and thresholds trained together, searched weights",
            published!("searched"),
        )
    },
    row(
        "multi-path network",
        "the paper's search with weights of its own for every convolution",
        published!("searched", "model.separate=true"),
    ),
    Row {
        kind: Kind::TorchPruning { importance: "taylor", what: "heads_ffn" },
        ..row("Torch-Pruning, Taylor", "heads and FFN", &[])
    },
    Row {
        kind: Kind::TorchPruning { importance: "hessian", what: "heads_ffn" },
        ..row("Torch-Pruning, Hessian", "heads and FFN", &[])
    },
    Row {
        kind: Kind::TorchPruning { importance: "magnitude", what: "heads_ffn" },
        ..row("Torch-Pruning, magnitude", "heads and FFN", &[])
    },
    Row {
        kind: Kind::TorchPruning { importance: "taylor", what: "ffn" },
        ..row("Torch-Pruning, Taylor, FFN", "FFN alone, fine-tuned in PyTorch", &[])
    },
    Row {
        kind: Kind::Carried { importance: "taylor" },
        ..row(
            "Torch-Pruning, Taylor, FFN, tuned here",
            "the same cut, fine-tuned by spvit",
            cut!("uniform", "msa"),
        )
    },
    Row {
        quick: true,
        ..row("uniform width", "attention everywhere, by weight norm", cut!("uniform", "msa"))
    },
    row(
        "magnitude",
        "attention everywhere, by weight norm over the network",
        cut!("magnitude", "msa"),
    ),
    row(
        "importance, FFN",
        "attention everywhere, by this project's importance over the network",
        cut!("importance", "msa"),
    ),
    row(
        "attention in every second block",
        "from the second on, shortcuts between, uniform width",
        cut!("uniform", "shortcut", "msa", "shortcut", "msa", "shortcut", "msa"),
    ),
    row(
        "the same, 1×1 convolutions between",
        "uniform width",
        cut!("uniform", "bconv1x1", "msa", "bconv1x1", "msa", "bconv1x1", "msa"),
    ),
    row(
        "attention in the last half",
        "shortcuts before, uniform width",
        cut!("uniform", "shortcut", "shortcut", "shortcut", "msa", "msa", "msa"),
    ),
    row(
        "attention in the first half",
        "shortcuts after, uniform width",
        cut!("uniform", "msa", "msa", "msa", "shortcut", "shortcut", "shortcut"),
    ),
    Row {
        kind: Kind::BestOfFive,
        ..row(
            "random",
            "best of five architectures after an epoch each",
            &[
                "search.epochs=0",
                "search.heads=false",
                "search.start=random",
                "search.operations=[\"shortcut|msa\"]",
                "finetune.init=dense",
                "finetune.refit=0",
            ],
        )
    },
    Row {
        group: Group::Ablation,
        ..row("whole attention layers", "heads without gates", &["search.heads=false"])
    },
    Row {
        group: Group::Ablation,
        ..row(
            "no trials",
            "of the candidates the one nearest to the dense model",
            &["search.trial_steps=0"],
        )
    },
    Row {
        group: Group::Ablation,
        quick: true,
        ..row("no least squares", "the pruned weights as they are", &["finetune.refit=0"])
    },
    Row {
        group: Group::Ablation,
        ..row("no distillation", "labels alone", &["finetune.distillation=0"])
    },
    Row {
        group: Group::Ablation,
        ..row(
            "search steps after it",
            "an epoch of gates and weights from importance's thresholds",
            &["search.epochs=1", "finetune.init=searched"],
        )
    },
    Row {
        group: Group::Ablation,
        ..row(
            "search steps, weights held",
            "an epoch of gates alone",
            &["search.epochs=1", "search.hold_weights=true"],
        )
    },
    Row {
        group: Group::Ablation,
        ..row("the paper's search, dense weights", "cut from the dense model", published!("dense"))
    },
    Row {
        group: Group::Ablation,
        ..row(
            "the paper's search, no convolutions",
            "attention or a shortcut",
            published!("searched", "search.operations=[\"shortcut|msa\"]"),
        )
    },
];

/// Those of `--transfer`.
pub const TRANSFERRED: &[&str] = &[
    "spvit",
    "dense, trained on",
    "the paper's search",
    "Torch-Pruning, Taylor",
    "Torch-Pruning, Hessian",
    "Torch-Pruning, magnitude",
    "magnitude",
    "attention in every second block",
    "random",
];
