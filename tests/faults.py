"""The table of faults: what may go wrong, what happens then, and the test that does it.

`python tests/faults.py > tests/FAULTS.md` writes it.
"""

from collections.abc import Callable

FAULTS: dict[str, tuple[str, str]] = {
    "mask and picture differ in size": (
        "refused: names both files and sizes",
        "test_masks.py::test_every_fault_of_the_folders_names_both_files",
    ),
    "masks of 0 and 255, labels from 1 or of 10, 20, 30": (
        "refused: `train` and `check` say which field tells what the numbers mean",
        "test_shown.py::test_numbers_that_cannot_be_meant_are_refused",
    ),
    "soft edges in masks": (
        "refused: says how to cut grey levels into classes",
        "test_shown.py::test_check_says_what_train_says",
    ),
    "images scaled to 0..1 or -1..1, normalized, nearly black, of one colour": (
        "a warning says what models expect and how to undo it",
        "test_plausible.py::test_floats_of_another_range_are_a_warning_in_each_part",
    ),
    "images with channels first": (
        "refused: says how to transpose them",
        "test_plausible.py::test_channels_first_is_refused",
    ),
    "images that are all the same": (
        "refused: in training and `check` of arrays",
        "test_plausible.py::test_images_that_are_all_the_same_are_refused",
    ),
    "a tf.data.Dataset that never ends": (
        "refused at once where it says so, else after a bound; lines say how much was read",
        "test_plausible.py::test_a_stream_that_never_ends_is_refused_after_a_line",
    ),
    "class without a training example": (
        "a warning names it; a training part of one class is refused",
        "test_shown.py::test_what_may_be_meant_is_a_warning",
    ),
    "dataset smaller than a batch": (
        "refused: names both numbers",
        "test_cli.py::test_what_a_user_can_mend_gives_one_message_and_nothing_written",
    ),
    "archive with ../ in its names": (
        "survived: only the pictures asked for are unpacked, under names of our own",
        "test_prepare.py::test_paths_within_an_archive_lead_nowhere",
    ),
    "weights tensor missing": (
        "refused: lists every missing, extra and mis-shaped tensor",
        "test_weights.py::test_all_that_does_not_fit_is_in_one_error_and_nothing_is_changed",
    ),
    "weights whose layers nothing identifies": (
        "refused: names the layers of equal shapes, and how to save them",
        "test_weights.py::test_layers_that_only_an_uncertain_order_tells_apart_are_refused",
    ),
    "weights of PyTorch": (
        "refused, pickle or .safetensors: says that they are PyTorch's",
        "test_weights_refused.py::test_refused_with_one_message",
    ),
    "weights that fit, of a network that computes otherwise": (
        "refused (strides) or warned of (epsilon, no biases), where the file shows it",
        "test_weights.py::test_a_file_whose_model_computes_otherwise_is_not_silent",
    ),
    "checkpoint.direction that contradicts the metric": (
        "refused: names the metric; an old run that has one is repeated as it was, and a warning says so",
        "test_monitor.py::test_a_direction_that_contradicts_its_metric_is_refused",
    ),
    "monitored class without an example in that part": (
        "refused: names the class and the part",
        "test_monitor.py::test_a_class_that_is_not_validated_is_no_monitor",
    ),
    "monitored metric that is never measured": (
        "a warning; the last checkpoint of each phase is kept",
        "test_monitor.py::test_a_run_without_its_metric_keeps_the_last_checkpoint",
    ),
    "part of the data whose classes all have weight 0": (
        "refused: names the part",
        "test_monitor.py::test_a_part_without_weight_is_refused",
    ),
    "moving average longer than the run, BatchNorm statistics too": (
        "a warning: the share of initial values that is left, and what to set",
        "test_averages.py::test_weights_averaged_for_longer_than_the_run_are_told_and_the_advice_helps",
    ),
    "accumulate with a BatchNorm that is trained": (
        "a warning: each piece has statistics of its own",
        "test_averages.py::test_batch_norm_of_pieces_is_told_once",
    ),
    "code in a Keras model file": (
        "refused: never unpickled, never run",
        "test_weights.py::test_code_in_a_model_is_refused",
    ),
    "picture in two parts, or under two classes": (
        "`check`: a problem that names the files, by bytes and by pixels",
        "test_check.py::test_the_same_picture_in_two_parts_or_classes_is_a_problem",
    ),
    "SIGTERM, Ctrl-C": (
        "the step is finished, all is saved, exit code 143 or 130; `--resume` ends with the same bits",
        "test_resume.py::test_a_run_stopped_anywhere_ends_as_if_it_had_not",
    ),
    "SIGTERM to one of several hosts": (
        "all save after the same step, exit code 143; `--resume` goes on, on any number of hosts and devices",
        "test_distributed.py::test_a_signal_to_one_stops_all_and_any_devices_go_on",
    ),
    "a host of several is gone": (
        "stopped: the others end within a minute, exit code 1, and say so",
        "test_distributed.py::test_a_killed_process_ends_the_other_within_a_minute",
    ),
    "a fault on one of several hosts": (
        "stopped: the others end with it, and say its message",
        "test_distributed.py::test_a_fault_of_one_ends_the_other_with_it",
    ),
    "another run, or other data, on one of several hosts": (
        "refused: names the fields that differ; no folder is left",
        "test_distributed.py::test_another_run_in_one_process_is_refused_before_training",
    ),
    "port of several hosts taken": ("refused: names the port", "test_distributed.py::test_a_taken_port_is_named"),
    "nobody at the address of process 0": (
        "refused: names the address, after five minutes",
        "test_distributed.py::test_an_address_where_nobody_answers_is_named",
    ),
    "images added since training, where the validation part was drawn": (
        "survived: named; the run's own part is evaluated; `--resume` refuses",
        "test_changed_data.py::test_a_run_measures_its_own_validation_part_and_says_what_changed",
    ),
    "an image replaced under its name since training": (
        "named, left out; refused where nothing of the part is left",
        "test_changed_data.py::test_an_image_that_changed_under_its_name_and_size_is_left_out",
    ),
    "training images in a held-out part of other data": (
        "a warning that counts and names them",
        "test_changed_data.py::test_training_images_in_a_held_out_part_are_counted",
    ),
    "a second signal": ("stops at once", "test_resume.py::test_a_second_signal_stops_at_once"),
    "SIGKILL, in a save too": (
        "`--resume` goes on from the last save and ends with the same bits",
        "test_resume.py::test_a_process_killed_again_and_again_ends_the_same",
    ),
    "SIGKILL before the first save": (
        "`--resume` starts over",
        "test_resume.py::test_what_was_stopped_before_anything_was_saved_starts_over",
    ),
    "training state: a byte flipped, cut short, missing, a stray file or folder": (
        "named and set aside; the one before it is used",
        "test_resume.py::test_states_are_checked_file_by_file",
    ),
    "best checkpoint: a byte flipped": (
        "refused: names the file",
        "test_resume.py::test_a_damaged_best_checkpoint_is_not_used",
    ),
    "any file of a run folder damaged": (
        "told with the folder's name, or used to the bit; 200 cases",
        "test_fuzzed_run.py::test_damage_is_seen",
    ),
    "run folder of another run, or of other data": (
        "refused: names the fields that differ; nothing is changed",
        "test_resume.py::test_a_run_is_resumed_as_what_it_is",
    ),
    "loss not finite": (
        "stopped: the last good checkpoint stays; names the settings to change",
        "test_fit.py::test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint",
    ),
    "batch that devices cannot share equally": (
        "refused: names a batch size that they can",
        "test_devices.py::test_what_cannot_be_spread_is_refused",
    ),
    "no such bucket, or one that the account may not look into": (
        "refused: names it, before the data is opened",
        "test_bucket.py::test_a_bucket_that_is_not_there_or_not_ours_is_named",
    ),
    "SIGTERM to a run whose folder is in a bucket": (
        "as on a disk: `--resume` ends with the same bits",
        "test_bucket.py::test_a_run_in_a_bucket_stopped_and_resumed_ends_as_on_a_disk",
    ),
    "custom model that cannot be called, or not be traced in training": (
        "refused: names the error and its line; no folder is left",
        "test_plain_nnx.py::test_a_model_that_cannot_be_trained_is_refused_before_a_folder_is_made",
    ),
    "custom model that gives probabilities, or is random in evaluation": (
        "a warning before training that names what it ends with, or what a prediction changes",
        "test_plain_nnx.py::test_what_looks_wrong_of_a_model_is_warned_of",
    ),
    "another number of devices": (
        "survived: `--resume` goes on, to rounding, and says so",
        "test_devices.py::test_as_on_one_device_to_rounding",
    ),
}
"""{fault: (what happens, FILE::TEST)}. Tests that are about faults alone enter theirs by `fault`."""


def fault(*names: str, happens: str) -> Callable:
    """Enters faults that the decorated test shows."""

    def entered(test: Callable) -> Callable:
        FAULTS.update({name: (happens, f"{test.__module__}.py::{test.__name__}") for name in names})
        return test

    return entered


def table() -> str:
    """All faults, as Markdown."""
    import test_csv_classes  # noqa: F401
    import test_faults_input  # noqa: F401
    import test_faults_run  # noqa: F401
    import test_image_formats  # noqa: F401
    import test_layouts  # noqa: F401

    rows = (f"| {name} | {FAULTS[name][0]} | `{FAULTS[name][1]}` |\n" for name in sorted(FAULTS, key=str.lower))
    return "| what is wrong | what happens | test |\n|---|---|---|\n" + "".join(rows)


TEXT = """# What may go wrong, and what happens then

Each row is met on a real file or process by the test it names. *Refused*: one message that names the file or
field, what was received and what to do, exit code 2, nothing half-written. Made by `python tests/faults.py`.

"""

if __name__ == "__main__":
    import faults

    print(TEXT + faults.table(), end="")
