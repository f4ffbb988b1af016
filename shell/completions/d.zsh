#compdef d
# Completion of `d` in zsh. Printed by `d completions zsh`; `d` itself answers at each TAB.

_peerbus_d() {
  local program=${(Q)words[1]} line value
  local -a typed answer offered
  [[ $program == */* && -x $program ]] || program=${PEERBUS_D:-d}
  typed=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
  answer=("${(@f)$(PEERBUS_COMPLETE=zsh command $program -- "${typed[@]}" 2>/dev/null)}")
  case ${answer[1]} in
    $'\001files' | $'\001directories')
      [[ $PREFIX != --*=* ]] || compset -P '*='
      if [[ ${answer[1]} == *files ]]; then _files; else _files -/; fi
      return
      ;;
  esac
  for line in "${answer[@]}"; do
    [[ -n $line ]] || continue
    value=${${line%%$'\t'*}//:/\\:}
    if [[ $line == *$'\t'* ]]; then
      offered+=("$value:${line#*$'\t'}")
    else
      offered+=("$value")
    fi
  done
  (( ${#offered} )) && _describe -V 'd' offered
}

if [[ ${funcstack[1]-} == _d ]]; then
  # Loaded by compinit out of fpath, for the TAB that is waiting.
  _peerbus_d "$@"
else
  (( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit }
  compdef _peerbus_d d
fi
