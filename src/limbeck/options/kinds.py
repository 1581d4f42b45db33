"""What the kinds of data look like that come with Limbeck, for listing them without opening any."""

__all__ = ["DATA_KINDS"]

DATA_KINDS = {
    "mnist": ("mnist", "60,000 and 10,000 digits, 28x28; inside the package"),
    "images": ("FOLDER of images", "one sub-folder for each class; or train, val and test folders of such"),
    "image list": ("FILE.csv, .tsv, .jsonl, .parquet of paths", "--image-column, --label-column: a row for each image"),
    "text": (
        "FILE.csv, .tsv, .jsonl, .parquet of texts",
        "--text-column, --label-column; or a folder with files train, validation and test",
    ),
    "words": (
        "FILE.jsonl, .parquet of lists of words, or .conll",
        "--words-column, --label-column: a list of words and one of their classes in each row; or a word a line",
    ),
    "next token": (
        "FILE.csv, .tsv, .jsonl, .parquet of texts",
        "--next-token, --text-column: each position has the next token as its class",
    ),
    "table": ("FILE.csv, .parquet of numbers and categories", "--label-column, --group-column: a row for each example"),
    "archive": (
        "FILE.npz",
        "arrays x and y, or x_train, val_images, test_labels and the like; classes where there are",
    ),
    "idx": ("FOLDER of IDX files", "the four files of MNIST, Fashion-MNIST, EMNIST, ...; gzipped or not"),
    "emnist": ("FILE.mat", "any split of EMNIST in its official layout"),
    "kaldi": ("Kaldi data directory", "feats.scp, with cmvn.scp and utt2spk where there are; alignments by --ali"),
}
"""What each is called where data are named, and what it is."""
