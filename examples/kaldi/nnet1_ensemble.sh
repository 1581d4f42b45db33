#!/bin/bash
# Two networks of nnet1 in exp/, distilled into a small one that is written back there; word errors of both.
set -euo pipefail
small=exp/dnn_small
speech="--data data/train --ali exp/ali --validation 0.1 --exp exp/dnn_a --temperature 1"
words="--exp exp/dnn_a --feats data/test --graph exp/graph --mdl exp/ali/final.mdl"

cat data/train/raw_fbank.*.ark | limbeck forward exp/dnn_[ab]/final.nnet --exp exp/dnn_a --feats ark:- --out ark:- |
    limbeck soften $speech --posteriors ark:- --out exp/targets
limbeck distill $speech --teacher-targets exp/targets --hidden 256 256 --epochs 20 --out exp/student
limbeck compress exp/student --parameters 0.5 --finetune-epochs 5 --temperature 1 --teacher-targets exp/targets --out exp/compressed
mkdir -p $small && limbeck convert exp/compressed $small/final.nnet
limbeck decode --model exp/dnn_[ab]/final.nnet $words --out exp/dnn_a/decode_test.txt
limbeck decode --model $small/final.nnet $words --out $small/decode_test.txt
