#!/usr/bin/env bash
# The README's experiment: does R-Drop help on little data, and what does it cost? Resumable; options go to ablate.sh
# (--parallel 1, --report, ...). Data: 2,000 pairs of at most 10 words of the demo corpus. Training takes six CPU hours for
# the four systems of the README's table, about nine with --vary start and forward.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,plots
cd "$ROOT"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
data=work/experiment pairs=2000 words=10 merges=1000

if [[ ! -d $data && -z $HELP ]]; then
    say "data: $pairs short pairs of the demo corpus"
    scripts/prepare_demo.sh
    half=$data.unfinished
    rm -rf "$half" && mkdir -p "$half"
    for part in train valid test; do
        paste work/demo/tok/$part.de work/demo/tok/$part.en \
            | awk -F'\t' -v n=$words 'split($1, a, " ") <= n && split($2, b, " ") <= n' >"$half/$part.short"
    done
    head -n $pairs "$half/train.short" >"$half/pairs" && mv "$half/pairs" "$half/train.short"
    tr '\t' '\n' <"$half/train.short" | "$PYTHON" -m subword_nmt.learn_bpe -s $merges >"$half/codes"
    for part in train valid test; do
        for column in 1 2; do
            language=$([[ $column == 1 ]] && echo de || echo en)
            cut -f$column "$half/$part.short" \
                | "$PYTHON" -m subword_nmt.apply_bpe -c "$half/codes" >"$half/$part.$language"
        done
    done
    "$PYTHON" -m fairseq_cli.preprocess --source-lang de --target-lang en --joined-dictionary --destdir "$half/bin" \
        --trainpref "$half/train" --validpref "$half/valid" --testpref "$half/test" >"$half/preprocess.log" 2>&1
    mv "$half" "$data"
fi

model=(--arch transformer --share-all-embeddings --dropout 0.3 --encoder-normalize-before --decoder-normalize-before)
for side in encoder decoder; do
    model+=("--$side-layers" 2 "--$side-embed-dim" 128 "--$side-ffn-embed-dim" 256 "--$side-attention-heads" 4)
done
optimization=(--optimizer adam --adam-betas "(0.9,0.98)" --lr 2e-3 --lr-scheduler inverse_sqrt --warmup-updates 400
    --label-smoothing 0.1 --max-tokens 500 --required-batch-size-multiple 1 --max-update 30000 --patience 10)
validation=(--eval-bleu --eval-bleu-args '{"beam":1,"max_len_a":1.2,"max_len_b":8}' --eval-bleu-remove-bpe
    --eval-tokenized-bleu --best-checkpoint-metric bleu --maximize-best-checkpoint-metric --max-tokens-valid 4000
    --validate-interval-updates 500 --save-interval-updates 500 --validate-interval 100000 --save-interval 100000
    --keep-interval-updates 1 --no-epoch-checkpoints)

exec scripts/ablate.sh $data/bin --out outputs/experiment --set alpha 3 --vary criterion rdrop simcut \
    --vary cutoff token --vary start 2500 --vary forward shared-encoder --seeds 1 2 --parallel 2 \
    --generate "--beam 5 --max-tokens 4000" "$@" -- \
    "${model[@]}" "${optimization[@]}" "${validation[@]}" --num-workers 0 --log-interval 50 --cpu
