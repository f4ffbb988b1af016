# shellcheck shell=bash
# Completion of `d` in bash. Printed by `d completions bash`; `d` itself answers at each TAB.
# Nothing here runs a command of the line; words are only taken apart and passed on.

# The words of the line up to the cursor, as the shell sees them: COMP_WORDS also breaks at ':' and '='.
_peerbus_d_words() {
  local rest=${COMP_LINE:0:COMP_POINT} index piece
  words=()
  for ((index = 0; index <= COMP_CWORD; index++)); do
    piece=${COMP_WORDS[index]}
    if ((index == 0)) || [[ $rest == [[:blank:]]* || -z $rest ]]; then
      words+=('')
      rest=${rest#"${rest%%[![:blank:]]*}"}
    fi
    ((index < COMP_CWORD)) || piece=$rest
    words[${#words[@]} - 1]+=$piece
    rest=${rest#"$piece"}
  done
}

_peerbus_d() {
  local words program current line ours answer=()
  _peerbus_d_words
  program=${words[0]}
  [[ $program == */* && -x $program ]] || program=${PEERBUS_D:-d}
  current=${words[${#words[@]} - 1]}
  COMPREPLY=()
  while IFS= read -r line; do
    [[ -z $line ]] || answer+=("${line%%$'\t'*}")
  done < <(PEERBUS_COMPLETE=bash command "$program" -- "${words[@]}" 2>/dev/null)
  case ${answer[0]-} in
    $'\001files') compopt -o default -o filenames 2>/dev/null && return ;;
    $'\001directories') compopt -o dirnames -o filenames 2>/dev/null && return ;;
  esac
  # What stands before the last ':' or '=' stays on the line; bash replaces only what follows it.
  ours=
  [[ $current != *[:=]* ]] || ours=${current%"${current##*[:=]}"}
  for line in ${answer[@]+"${answer[@]}"}; do
    COMPREPLY+=("${line#"$ours"}")
  done
}

complete -o nosort -F _peerbus_d d 2>/dev/null || complete -F _peerbus_d d
