#!/usr/bin/env bash
# Downloads WikiText-2 and the WordPiece vocabulary. See --help.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: data/fetch_wikitext2.sh

Downloads WikiText-2 (raw, three Parquet files) and the vocabulary of bert-base-uncased with curl, about
8 MB, into $WEDGE_DATA (default: ~/.cache/wedge), where `wedge train data=wikitext2` looks for them:

  wikitext-2-raw-v1/train-00000-of-00001.parquet
  wikitext-2-raw-v1/validation-00000-of-00001.parquet
  wikitext-2-raw-v1/test-00000-of-00001.parquet
  bert-base-uncased/vocab.txt

A file that is already there and good is kept. A download gets its name only once it is checked, by sha256
(the validation file, whose sum is not recorded, by Parquet's first and last bytes).

Licences: WikiText-2 CC BY-SA (text of Wikipedia), the vocabulary Apache-2.0.

Environment:
  WEDGE_DATA            the folder to fill
  WEDGE_FETCH_MANIFEST  a file that replaces the list above: a line "PATH SHA256 URL" for each file, "-" for
                        an unknown sum
EOF
}

manifest() {
  if [[ -n ${WEDGE_FETCH_MANIFEST:-} ]]; then
    cat -- "$WEDGE_FETCH_MANIFEST"
    return
  fi
  local wikitext=https://huggingface.co/datasets/Salesforce/wikitext/resolve/main/wikitext-2-raw-v1
  cat <<EOF
wikitext-2-raw-v1/train-00000-of-00001.parquet e83889baabc497075506f91975be5fac0d45c5290b6b20582c8cd1e853d0c9f7 $wikitext/train-00000-of-00001.parquet
wikitext-2-raw-v1/validation-00000-of-00001.parquet - $wikitext/validation-00000-of-00001.parquet
wikitext-2-raw-v1/test-00000-of-00001.parquet 5f1bea067869d04849c0f975a2b29c4ff47d867f484f5010ea5e861eab246d91 $wikitext/test-00000-of-00001.parquet
bert-base-uncased/vocab.txt 07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3 https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt
EOF
}

fail() {
  echo "fetch_wikitext2: error: $*" >&2
  exit 1
}

sha256() {
  if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

# Says what is wrong with FILE, or nothing if it is what the manifest promises.
fault() {
  local file=$1 sum=$2 actual
  if [[ $sum != - ]]; then
    actual=$(sha256 "$file")
    [[ $actual == "$sum" ]] || echo "sha256 is $actual, expected $sum"
  elif [[ $file == *.parquet* ]]; then
    # A Parquet file begins and ends with PAR1 and cannot be shorter than 12 bytes.
    if [[ $(wc -c <"$file") -lt 12 ]] || ! cmp -s <(head -c 4 "$file") <(printf PAR1) ||
      ! cmp -s <(tail -c 4 "$file") <(printf PAR1); then
      echo "not a Parquet file"
    fi
  fi
}

partial=
trap '[[ -z $partial ]] || rm -f -- "$partial"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fetch() {
  local file=$data/$1 sum=$2 url=$3 wrong
  if [[ -e $file ]]; then
    wrong=$(fault "$file" "$sum")
    if [[ -z $wrong ]]; then
      echo "$file: already there"
      return
    fi
    echo "$file: $wrong; downloading it again"
  fi
  mkdir -p -- "$(dirname -- "$file")" || fail "cannot make the folder of $file"
  partial=$(mktemp -- "$file.XXXXXX") || fail "cannot write beside $file"
  curl --fail --location --silent --show-error --retry 3 --connect-timeout 30 --output "$partial" -- "$url" ||
    fail "cannot download $url"
  wrong=$(fault "$partial" "$sum")
  [[ -z $wrong ]] || fail "$url: $wrong"
  chmod 644 -- "$partial"
  mv -f -- "$partial" "$file" || fail "cannot write $file"
  partial=
  if [[ $sum == - ]]; then
    echo "$file: downloaded (no sum is recorded for it; its sha256 is $(sha256 "$file"))"
  else
    echo "$file: downloaded, sha256 as expected"
  fi
}

case ${1:-} in
  "") ;;
  -h | --help)
    usage
    exit
    ;;
  *) fail "unknown argument '$1' (see --help)" ;;
esac

command -v curl >/dev/null || fail "curl is not installed"
command -v sha256sum >/dev/null || command -v shasum >/dev/null || fail "neither sha256sum nor shasum is installed"
data=${WEDGE_DATA:-${HOME:?neither WEDGE_DATA nor HOME is set}/.cache/wedge}

list=$(manifest) || fail "cannot read $WEDGE_FETCH_MANIFEST"
while read -r path sum url; do
  [[ -n $path ]] || continue
  [[ -n $url ]] || fail "manifest: expected PATH SHA256 URL, got '$path $sum'"
  fetch "$path" "$sum" "$url"
done <<<"$list"
echo "All is in $data"
