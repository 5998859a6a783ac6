# Completion of strata for bash: commands, options, names and settings, as they were when this was written.
# For this shell: source <(strata completion bash)
# For all: strata completion bash > ~/.local/share/bash-completion/completions/strata

_strata() {
    local current=${COMP_WORDS[COMP_CWORD]} key= command=${COMP_WORDS[1]} own= word
    COMPREPLY=()
    # bash takes key=value for three words
    if [[ $current == "=" ]]; then
        key=${COMP_WORDS[COMP_CWORD - 1]}
        current=
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == "=" ]]; then
        key=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "{{ known.commands | join(' ') }} --help --version" -- "$current"))
        return
    fi
    if [[ -n $key ]]; then
        case $key in
{% for key, values in known.values.items() %}
            {{ key }}) COMPREPLY=($(compgen -W "{{ values | join(' ') }}" -- "$current")) ;;
{% endfor %}
        esac
        return
    fi
    for word in "${COMP_WORDS[@]:2}"; do
        case $word in
{% for name, keys in known.own.items() if keys %}
            {{ name }}) own="{{ keys | join(' ') }}" ;;
{% endfor %}
        esac
    done
    [[ $command == launch ]] && ((COMP_CWORD > 2)) && command="launch ${COMP_WORDS[2]}"
    local options= words= methods= settings= folders=
    case $command in
{% for name, line in known.lines.items() %}
        "{{ name }}")
            options="{{ line.options | join(' ') }}"
            words="{{ line.words | join(' ') }}"
            methods={{ line.methods | int }} settings={{ line.settings | int }} folders={{ line.folders | int }}
            ;;
{% endfor %}
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
        return
    fi
    ((methods)) && words+=" {{ known.names | join(' ') }}"
    if ((settings)); then
        for word in {{ known.keys | join(' ') }} $own; do
            words+=" $word="
        done
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    ((folders)) && COMPREPLY+=($(compgen -d -- "$current"))
}

complete -o default -F _strata strata
