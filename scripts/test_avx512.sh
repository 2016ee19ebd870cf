#!/bin/bash
# Runs the kernels for AVX-512 where no processor has it: boots a kernel with nothing but the
# native driver on a Skylake-X that Bochs emulates, and compares the digests of the instruction
# sets there: scripts/test_avx512.sh [MOST]
# Volumes of more than MOST values are left out, by default 20000: emulation is some 500 times
# slower than a processor, and starting the kernel alone takes minutes.
# On Debian: apt-get install bochs bochsbios bochs-term busybox-static cpio isolinux ninja-build \
#   syslinux-common xorriso
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 1 "$@"
most=${arguments[0]-20000}
number "$most"
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap '[[ -z $emulator ]] || kill "$emulator"; rm -rf "$scratch"' EXIT
emulator=

cmake -S . -B build/native-tests -G Ninja -DBN3D_NATIVE_TESTS=ON >/dev/null
cmake --build build/native-tests >/dev/null
driver=build/native-tests/tests/native/driver library=build/native-tests/op_impl/cpu/libbn3d_cpu.so

# The system: busybox, the driver, and the libraries that it loads.
mkdir -p "$scratch"/system/{bin,proc} "$scratch/iso/isolinux"
cp /bin/busybox "$scratch/system/bin/"
cp "$driver" "$library" "$scratch/system/"
for file in $({ ldd "$driver"; ldd "$library"; } | grep -o '/[^ ]*' | sort -u); do
  install -D "$file" "$scratch/system$file"
done
cat >"$scratch/system/init" <<INIT
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
for isa in avx2 avx512; do BN3D_ISA=\$isa /driver /${library##*/} $most; done
BN3D_STREAMED_BYTES=0 /driver /${library##*/} $most
echo end
exec /bin/busybox sleep 1d
INIT
chmod +x "$scratch/system/init"
(cd "$scratch/system" && find . | cpio -o -H newc --quiet | gzip -1 >../iso/initrd.gz)

# A kernel that boots it from a CD. Without XSAVEC and XSAVES (321, 323), of whose areas Bochs 2.7
# reports the wrong size, so that Linux would turn AVX off.
image=$(apt-cache depends linux-image-amd64 | awk '/Depends/ {print $2; exit}')
(cd "$scratch" && apt-get download -qq "$image" 2>/dev/null)
dpkg-deb --fsys-tarfile "$scratch/$image"*.deb | tar -x -C "$scratch" ./boot
cp "$scratch"/boot/vmlinuz-* "$scratch/iso/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$scratch/iso/isolinux/"
cat >"$scratch/iso/isolinux/isolinux.cfg" <<'BOOT'
default linux
label linux
  kernel /vmlinuz
  append initrd=/initrd.gz console=ttyS0 quiet mitigations=off clearcpuid=321,323 nosmp noapic acpi=off
BOOT
xorriso -as mkisofs -quiet -o "$scratch/boot.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
  -no-emul-boot -boot-load-size 4 -boot-info-table "$scratch/iso" 2>/dev/null

cat >"$scratch/bochsrc" <<BOCHS
megs: 768
cpu: model=corei7_skylake_x, ips=100000000
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$scratch/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$scratch/said
log: $scratch/log
display_library: term
clock: sync=none
BOCHS
echo c >"$scratch/continue" # Debian's Bochs starts in its debugger
touch "$scratch/said"
# Its display wants a terminal.
TERM=xterm script -qc "exec bochs -q -f $scratch/bochsrc -rc $scratch/continue" /dev/null >/dev/null 2>&1 &
emulator=$!
until grep -q '^end' "$scratch/said"; do
  kill -0 "$emulator" 2>/dev/null || { cat "$scratch/log" >&2; echo "Bochs ended" >&2; exit 1; }
  sleep 5
done
tr -d '\r' <"$scratch/said" | grep digest
digests=$(grep -c ' 0 failed, digest' "$scratch/said")
different=$(grep -o 'digest [0-9a-f]*' "$scratch/said" | sort -u | wc -l)
if [[ $digests != 3 || $different != 1 ]] || ! grep -q '^avx512: ' "$scratch/said"; then
  cat "$scratch/said" >&2
  echo "AVX-512 is not as AVX2" >&2
  exit 1
fi
echo "avx512 and avx2 agree in every bit"
