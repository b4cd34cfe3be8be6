//! A step of the published fine-tuning form: searched attention layers whose operation is given. It is
//! no model of this project, but its objective drives the project's step.

use burn::backend::Autodiff;
use spvit_core::{FusedOps, TrainBackend, fused::cross_entropy};
use spvit_layers::state::{self, StateDict};
use spvit_layers::{BlockGates, Family, Init, Operation, SearchVit};
use spvit_train::{
    Devices, MicroBatch,
    step::{Group, Loss, Objective, Replicas, StepContext, StepOptions},
};

use crate::support::{Case, Errors, Scale, cases, operation, values};
use crate::{batch, by_name};

on_all_backends!(a_step_of_the_finetune_form);

struct Fixed(Vec<Operation>);

impl<B: TrainBackend> Objective<B> for Fixed {
    type Model = SearchVit<B>;

    fn loss(
        &self,
        model: &SearchVit<B>,
        batch: &MicroBatch<B>,
        context: &StepContext<B>,
    ) -> Loss<B> {
        let gates: Vec<_> = self.0.iter().map(|&operation| BlockGates::fixed(operation)).collect();
        let logits = model.forward(batch.images.clone(), &gates, &context.mode());
        let value = cross_entropy(logits.clone(), batch.targets.clone(), batch.total);
        Loss { value, logits }
    }

    fn on_device(&self, _device: &B::Device) -> Self {
        Self(self.0.clone())
    }
}

fn step<B: FusedOps>(case: &Case) -> Replicas<Autodiff<B>, Fixed> {
    let mut config = case.config();
    match &mut config.family {
        Family::Vit(vit) => vit.style.shortcut_adds_norm = true,
        Family::Swin(swin) => swin.style.shortcut_adds_norm = true,
    }
    let device = crate::support::device::<B>();
    let operations =
        case.rows("/msa_indicators").iter().map(|row| operation(&config, row)).collect();
    let hidden: Vec<usize> = case.rows("/ffn_keep").iter().map(Vec::len).collect();
    let fresh = SearchVit::with_hidden(&config, &hidden, &mut Init::new(0, &device));
    let state = case.state(&fresh);
    let model = state::import(fresh, &state).unwrap();
    Replicas::new(
        Fixed(operations),
        model,
        [Group::new(0.0)],
        StepOptions::default(),
        &Devices::one(&device),
    )
}

fn a_step_of_the_finetune_form<B: FusedOps>() {
    let mut errors = Errors::new::<B>("fine-tuning step");
    for case in [cases("deit_finetune"), cases("swin_finetune")].concat() {
        let mut step = step::<B>(&case);
        let gradients = step.gradients(&batch(&case), 0).unwrap();
        errors.check(
            "cross-entropy",
            &case.name,
            &[gradients.report.loss as f32],
            &[case.number("/ce_train") as f32],
            (1e-5, Scale::AtLeastOne),
        );
        let found = by_name(step.model(), &gradients.groups[0]);
        // Layers that a block's operation does not use are not in the published form, so they are
        // not in the file and must have no gradient.
        let stored = case.io.iter().filter_map(|(k, v)| Some((k.strip_prefix("grad.")?, v)));
        let mut stored: StateDict = stored.map(|(name, x)| (name.to_string(), x.clone())).collect();
        state::name_as_timm(&mut stored);
        errors.check_gradients("gradients", &found, &stored);

        let before = state::export(step.model());
        step.apply(gradients, &[0.0]);
        let after = state::export(step.model());
        for (name, data) in after.iter().filter(|(name, _)| name.contains("running_")) {
            match case.io.get(&format!("train.after.{name}")) {
                Some(expected) => errors.check(
                    "running statistics",
                    name,
                    &values(data),
                    &values(expected),
                    (1e-5, Scale::AtLeastOne),
                ),
                None => assert_eq!(data, &before[name], "{}: {name}", case.name),
            }
        }
    }
}
