//! Behaviour from outside, on the device that `BURN_CONVEXITY_DEVICE` names.
//!
//! Mistakes found in peers, and the tests that watch for them. Those with a star were planted in a copy and the tests
//! seen to fail; the others were not, or have two guards here of which either is enough:
//!
//! | mistake | caught by |
//! |---|---|
//! | * the sign of the betas of Hestenes-Stiefel and Dai-Yuan flipped | `scalars::beta_values_are_those_of_the_formulas`, `scalars::all_betas_coincide_under_an_exact_search_on_a_quadratic`, `metamorphic::a_quadratic_of_n_dimensions_ends_in_n_iterations_of_an_exact_search` |
//! | * norms where squared norms belong | the same, `metamorphic::multiplying_the_loss_leaves_the_trajectory_unchanged` |
//! | * conjugate gradients on one tensor's products instead of all | `metamorphic::splitting_a_tensor_leaves_the_trajectory_unchanged_but_for_rounding` |
//! | * beta shrunk by an absolute 1e-6, or zeroed below an epsilon | `metamorphic::multiplying_the_loss_leaves_the_trajectory_unchanged`, `scalars::multiplying_the_loss_leaves_the_trajectory_unchanged` |
//! | * convergence judged by the first gradient for ever | `scalars::the_driver_problem_of_cg_descent_is_solved_within_its_budget`, `bad_input::gradients_that_are_all_zero_converge_at_once_and_move_nothing` |
//! | * a switch that silently does nothing | `learner::one_line_in_a_learner_works`, `learner::each_value_of_a_metric_belongs_to_the_iteration_it_is_shown_at` |
//! | * all tensors flipped by the first that qualifies | `protocol::the_detector_sees_the_norm_of_the_whole_gradient_not_of_one_tensor`, `metamorphic::splitting_a_tensor_leaves_the_trajectory_unchanged_but_for_rounding`, `metamorphic::an_unused_or_a_frozen_parameter_changes_no_bit` |
//! | * resume without a part of the second phase's state | seven tests of `resume`, for the check of noise |
//! | * a trial that is not a number makes the step grow | `bad_input::trials_that_are_not_finite_shrink_the_step_and_leave_the_parameters_finite` |
//! | * parameters changed although the search failed | `bad_input::an_objective_that_turns_infinite_for_good_hands_back_to_adam_from_the_accepted_point`, `resume::a_run_that_hands_back_resumes_bit_for_bit_from_every_checkpoint` |
//! | * a zero step gives `y = 0` and a beta that is not a number | `scalars::a_gradient_that_does_not_change_gives_a_direction_of_finite_numbers`, `bad_input::gradients_that_are_all_zero_converge_at_once_and_move_nothing`, `scalars::convex_quadratics_are_solved_whatever_their_spectrum` |
//! | * a misaligned optimizer where a parameter has no gradient; frozen parameters thawed | `metamorphic::an_unused_or_a_frozen_parameter_changes_no_bit`, `bad_input::a_parameter_without_gradient_and_a_frozen_one_stand_still_and_change_no_other` |
//! | * evaluations miscounted | `metamorphic::evaluations_reported_are_those_the_closure_counted` |
//! | * dropout active during a deterministic search | `learner::with_attach_all_evaluations_see_one_function_without_dropout_and_with_kept_running_statistics` |
//!
//! Parameters marked for distributed data parallel have no test: on every backend but CUDA, Burn itself panics when one
//! is marked.

mod backends;
mod bad_input;
mod cases;
mod convex;
#[path = "../../examples/shared/device.rs"]
mod device_name;
mod host;
mod hostile;
mod interrupted;
mod learner;
mod long_run;
mod metamorphic;
mod metric;
mod penalty;
mod protocol;
mod records;
mod resume;
mod resume_any;
mod scalars;
mod shapes;
mod support;
mod threads;
