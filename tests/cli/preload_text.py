"""Imported by the server from which processes are forked: what texts need takes seconds to import."""

from limbeck.system.hugging_face import transformers

_HF = transformers()
assert _HF.BertForSequenceClassification and _HF.AutoTokenizer
