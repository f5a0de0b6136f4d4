#!/bin/sh
# The data part of artifacts/<scale>-<data>, spelt as Settings.run_name spells it: each name or path of
# $DATA by its last part, other characters as "_", joined by "+".
printf '%s\n' "${DATA:?}" | tr ',' '\n' |
    LC_ALL=C sed -e '/^$/d' -e 's,/*$,,' -e 's,.*/,,' -e 's/[^0-9A-Za-z_.'"$(printf '\200')-$(printf '\377')"'-]\{1,\}/_/g' \
        -e 's/^[._]*//' -e 's/[._]*$//' -e 's/^$/data/' | paste -s -d + -
