#!/usr/bin/env bash
# Does R-Drop help, and what does it cost? Eleven systems, three seeds, 3,000 Bible verses (Spanish to English), one thread
# each; scripts/experiment/README.md says why and what is known. Resumable. Options go to ablate.sh: --parallel 1, --report.
#   scripts/experiment.sh tune     first: plain training with other dropout and label smoothing, scored on valid
#   scripts/experiment.sh          all systems with seed 1, then with seeds 2 and 3
#   scripts/experiment.sh --only cutoff=token --seeds 3    one training
#   scripts/experiment.sh --report --seeds 1    what is finished of seed 1
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,plots
cd "$ROOT"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
data=work/verses/bin out=outputs/experiment

[[ -n $HELP ]] || scripts/prepare_verses.sh >/dev/null

model=(--arch transformer --share-all-embeddings --dropout 0.3 --encoder-normalize-before --decoder-normalize-before)
for side in encoder decoder; do
    model+=("--$side-layers" 2 "--$side-embed-dim" 128 "--$side-ffn-embed-dim" 256 "--$side-attention-heads" 4)
done
# The learning rate falls linearly to a hundredth, which ends all alike: it is level then.
optimization=(--optimizer adam --adam-betas "(0.9,0.98)" --lr 3e-3 --end-learning-rate 3e-5 --warmup-updates 400
    --lr-scheduler polynomial_decay --total-num-update 12000 --max-update 12000
    --label-smoothing 0.1 --max-tokens 600 --required-batch-size-multiple 1)
validation=(--eval-bleu --eval-bleu-args '{"beam":1,"max_len_a":1.2,"max_len_b":8}' --eval-bleu-remove-bpe
    --eval-tokenized-bleu --best-checkpoint-metric bleu --maximize-best-checkpoint-metric --max-tokens-valid 6000
    --validate-interval-updates 1000 --save-interval-updates 1000 --validate-interval 100000 --save-interval 100000
    --keep-interval-updates 5 --no-epoch-checkpoints)
base=("${model[@]}" "${optimization[@]}" "${validation[@]}" --num-workers 0 --log-interval 50 --cpu)
common=(--parallel 2 --generate "--beam 5 --max-tokens 4000")

if [[ ${1:-} == tune ]]; then
    exec scripts/ablate.sh $data --out $out/tuning --set criterion plain --vary dropout 0.2 0.4 0.1 \
        --vary label-smoothing 0 0.2 --vary updates 24000 6000 --subset valid "${common[@]}" "${@:2}" -- "${base[@]}"
fi
exec scripts/ablate.sh $data --out $out --set alpha 1 --vary alpha 1 3 5 --vary cutoff token --vary criterion simcut \
    --vary passes 3 --vary every 2 --vary forward shared-encoder --vary start 4000 --vary warmup 4000 \
    --seeds 1 2 3 --average 5 --ensemble "${common[@]}" "$@" -- "${base[@]}"
