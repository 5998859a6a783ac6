#compdef strata
# Completion of strata for zsh: commands, options, names and settings, as they were when this was written.
# For this shell: source <(strata completion zsh)
# For all: strata completion zsh > "${fpath[1]}/_strata"

_strata() {
    local current=${words[CURRENT]} command=${words[2]} word
    local -a own options plain keys
    local methods=0 settings=0 folders=0
    if ((CURRENT == 2)); then
        compadd -- {{ known.commands | join(' ') }} --help --version
        return
    fi
    if [[ $current == *=* ]]; then
        compset -P '*='
        case ${current%%=*} in
{% for key, values in known.values.items() %}
            {{ key }}) compadd -- {{ values | join(' ') }} ;;
{% endfor %}
            *) _files ;;
        esac
        return
    fi
    for word in ${words[3,-1]}; do
        case $word in
{% for name, keys in known.own.items() if keys %}
            {{ name }}) own=({{ keys | join(' ') }}) ;;
{% endfor %}
        esac
    done
    [[ $command == launch ]] && ((CURRENT > 3)) && command="launch ${words[3]}"
    case $command in
{% for name, line in known.lines.items() %}
        "{{ name }}")
            options=({{ line.options | join(' ') }})
            plain=({{ line.words | join(' ') }})
            methods={{ line.methods | int }} settings={{ line.settings | int }} folders={{ line.folders | int }}
            ;;
{% endfor %}
    esac
    if [[ $current == -* ]]; then
        compadd -a options
        return
    fi
    ((methods)) && plain+=({{ known.names | join(' ') }})
    compadd -a plain
    if ((settings)); then
        keys=({{ known.keys | join(' ') }} $own)
        compadd -S '=' -a keys
    fi
    ((folders)) && _files -/
    ((settings)) && _files
}

if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _strata "$@"
else
    compdef _strata strata
fi
