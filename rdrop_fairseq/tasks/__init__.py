"""The registered tasks: one name per file, the file named after it; what they are made of is in parts/."""

NAMES = ("translation_rdrop", "summarization_rdrop", "sentence_prediction_rdrop", "language_modeling_rdrop")
