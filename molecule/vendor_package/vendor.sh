#!/bin/bash
# A repository of one package, trial-program, in two versions, signed with a key of its own.
set -euo pipefail
repository=/srv/trial-vendor
export GNUPGHOME=$repository/keys
mkdir -p "$repository/build/DEBIAN" "$repository/build/usr/bin" "$GNUPGHOME"
chmod 700 "$GNUPGHOME"
cd "$repository"
printf '#!/bin/sh\necho from the vendor\n' >build/usr/bin/trial-program
chmod 755 build/usr/bin/trial-program
for version in 1.0 2.0; do
  printf 'Package: trial-program\nVersion: %s\nArchitecture: all\nMaintainer: Trial <trial@example.org>\nDescription: A trial\n' \
    $version >build/DEBIAN/control
  dpkg-deb --root-owner-group --build build trial-program-$version.deb
done
apt-ftparchive packages . >Packages
apt-ftparchive release . >Release
gpg --batch --passphrase '' --quick-generate-key trial@example.org default default never
gpg --armor --export trial@example.org >key.asc
gpg --batch --clearsign --output InRelease Release
