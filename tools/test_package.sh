#!/usr/bin/env bash
# Makes the Debian package from build/release, installs it with apt into a clean Debian 12 root (mmdebstrap), and runs the program and
# the C example there. As root, with access to a Debian mirror. The last line says what ran.
#   MMDEBSTRAP_OPTIONS: more options for mmdebstrap (such as --aptopt=FILE).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/setup.sh
install_packages mmdebstrap dpkg-dev file

build_preset release sepllm sepllm_shared sepllm_mpi sepllm_pages
(cd build/release && rm -f ./*.deb && cpack -G DEB >cpack.log || { cat cpack.log >&2; exit 1; })
package=$(echo "$PWD"/build/release/sepllm_*.deb)
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT

# shellcheck disable=SC2086
mmdebstrap --quiet --mode=root --variant=apt ${MMDEBSTRAP_OPTIONS:-} \
  --customize-hook="copy-in $package models/sepllm-5m /tmp" \
  --customize-hook='chroot "$1" sh -c "apt-get -qq install -y --no-install-recommends /tmp/sepllm_*.deb gcc libc6-dev pkg-config >/dev/null 2>&1"' \
  --customize-hook='chroot "$1" sh -c "sepllm --version && sepllm generate --model /tmp/sepllm-5m --prompt \"Once upon a time\" -n 8"' \
  --customize-hook='chroot "$1" sh -c "cd /tmp && cc /usr/share/doc/sepllm/generate.c \$(pkg-config --cflags --libs sepllm) -o generate && ./generate sepllm-5m \"Once upon a time\""' \
  bookworm "$root/debian"
echo "installed and run in a clean root: $(basename "$package")"
