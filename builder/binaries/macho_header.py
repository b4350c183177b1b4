"""The header of one thin Mach-O file, or of one slice of a fat one (<mach-o/loader.h>)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from builder.binaries.cursor import ByteOrder, Region

CPU_X86: Final = 0x00000007
CPU_ARM: Final = 0x0000000C
CPU_POWERPC: Final = 0x00000012
ABI64: Final = 0x01000000
MH_OBJECT: Final = 1
THIN_MAGICS: Final[dict[bytes, tuple[Literal[32, 64], ByteOrder]]] = {
    b"\xcf\xfa\xed\xfe": (64, "<"),
    b"\xce\xfa\xed\xfe": (32, "<"),
    b"\xfe\xed\xfa\xcf": (64, ">"),
    b"\xfe\xed\xfa\xce": (32, ">"),
}

_ABI_BITS: Final = 0xFF000000
_CAPABILITIES: Final = 0xFF000000
_ARCHES: Final = {
    (CPU_X86, 3): "i386",
    (CPU_X86 | ABI64, 3): "x86_64",
    (CPU_X86 | ABI64, 8): "x86_64h",
    (CPU_ARM | ABI64, 0): "arm64",
    (CPU_ARM | ABI64, 2): "arm64e",
    (CPU_POWERPC, 0): "ppc",
    (CPU_POWERPC | ABI64, 0): "ppc64",
}
_ORDERS: Final[dict[int, ByteOrder]] = {CPU_X86: "<", CPU_ARM: "<", CPU_POWERPC: ">"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachHeader:
    """What a Mach-O header says. `commands` is a count, `commands_size` bytes.

    `cpu_subtype` is whole, with its capability bits.
    """

    bits: Literal[32, 64]
    order: ByteOrder
    cpu_type: int
    cpu_subtype: int
    filetype: int
    commands: int
    commands_size: int

    @property
    def size(self) -> int:
        """Bytes of the header itself."""
        return 32 if self.bits == 64 else 28

    @property
    def cpu(self) -> tuple[int, int]:
        """CPU type and subtype, without what the program asks of the loader."""
        return self.cpu_type, without_capabilities(self.cpu_subtype)

    @property
    def cpu_family(self) -> int:
        """CPU type, 32-bit and 64-bit alike."""
        return self.cpu_type & ~_ABI_BITS

    @property
    def arch(self) -> str:
        """The architecture, as `image.MachSlice` names it."""
        return arch_name(self.cpu)


def arch_name(cpu: tuple[int, int]) -> str:
    """The architecture of a CPU type and subtype, as `image.MachSlice` names it."""
    return _ARCHES.get(cpu, f"cpu-{cpu[0]}-{cpu[1]}")


def without_capabilities(cpu_subtype: int) -> int:
    """A CPU subtype without its capability bits."""
    return cpu_subtype & ~_CAPABILITIES


def read_header(slice_: Region) -> MachHeader:
    """The header at the start of `slice_`, whatever byte order the region has.

    Raises BinaryError for another magic, and for one that does not fit the CPU type.
    """
    magic = bytes(slice_.view[:4])
    if magic not in THIN_MAGICS:
        raise slice_.error("no Mach-O header where one should be", 0)
    bits, order = THIN_MAGICS[magic]
    fields = slice_.ordered(order).unpack("6I", 4, "the Mach-O header")
    header = MachHeader(
        bits=bits,
        order=order,
        cpu_type=fields[0],
        cpu_subtype=fields[1],
        filetype=fields[2],
        commands=fields[3],
        commands_size=fields[4],
    )
    _check_fits_cpu(slice_, header)
    return header


def _check_fits_cpu(slice_: Region, header: MachHeader) -> None:
    wide = bool(header.cpu_type & ABI64)
    order = _ORDERS.get(header.cpu_family, header.order)
    if wide != (header.bits == 64) or order != header.order:
        raise slice_.error("the Mach-O magic does not fit the CPU type", 4)
