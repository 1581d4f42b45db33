# Images that nobody labelled teach too: the student learns the teacher's answers to them, and is evaluated on labels.
limbeck distill --data photos --image-size 64 --transfer unlabelled --hard-weight 0 --teacher runs/teacher \
    --student cnn --out runs/transfer
