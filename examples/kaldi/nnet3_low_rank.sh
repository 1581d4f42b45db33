#!/bin/bash
# Two TDNNs of nnet3 in exp/ teach a low-rank copy of the first; word errors of the first, its copy, and the copy taught.
set -euo pipefail
small=exp/tdnn_small
speech="--data data/train --ali exp/ali --exp exp/tdnn_a --validation 0.1 --temperature 1 --hard-weight 0"
words="--exp exp/tdnn_a --text data/test/text --graph exp/graph --mdl exp/ali/final.mdl --acoustic-scale 0.1"

mkdir -p $small
limbeck kaldi nnet3-copy exp/tdnn_a/final.mdl $small/svd.mdl --edits "apply-svd name=* energy-threshold=0.8"
limbeck kaldi nnet3-finetune $small/svd.mdl $small/final.mdl --teacher exp/tdnn_[ab]/final.mdl $speech --epochs 5
for model in exp/tdnn_a/final $small/svd $small/final; do
    cat data/test/raw_fbank.*.ark | limbeck decode --model $model.mdl --feats ark:- $words --out $model.decoded
done
