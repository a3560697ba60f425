"""The registered criterions: one name per file, the file named after it."""

NAMES = (
    "label_smoothed_cross_entropy_rdrop",
    "label_smoothed_cross_entropy_cutoff",
    "label_smoothed_cross_entropy_simcut",
    "sentence_prediction_rdrop",
    "adaptive_loss_rdrop",
)
