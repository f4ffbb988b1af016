# Completion of `d` in fish. Printed by `d completions fish`; `d` itself answers at each TAB.

function __peerbus_d
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    set -l program $typed[1]
    if not string match -q '*/*' -- $program; or not test -x $program
        set program d
        set -q PEERBUS_D; and set program $PEERBUS_D
    end
    set -l answer (PEERBUS_COMPLETE=fish command $program -- $typed "$current" 2>/dev/null)
    set -l path (string replace -r -- '^--[^=]*=' '' "$current")
    set -l before (string sub -l (math (string length -- "$current") - (string length -- "$path")) -- "$current")
    switch "$answer[1]"
        case \x01files
            for found in (__fish_complete_path "$path")
                echo $before$found
            end
        case \x01directories
            for found in (__fish_complete_directories "$path")
                echo $before$found
            end
        case '*'
            # Nothing at all is better than a line without a word.
            test -n "$answer[1]"; and printf '%s\n' $answer
    end
end

complete --command d --no-files --keep-order --arguments '(__peerbus_d)'
