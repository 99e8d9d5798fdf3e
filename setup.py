"""Compile the modules that every call of a service passes: those with a `.pxd` beside them.

All of them or none: compiled classes are laid out for one another. Where there is no C compiler,
or no header of Python's, all stay plain Python, which behaves alike and is slower.
"""

import os
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any, Final

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE: Final = "protocol"
PLAIN: Final = (
    f"{PACKAGE} stays plain Python, and calls take about one and a half times as long; "
    "to compile it takes a C compiler and Python's headers"
)
CPUS: Final = os.cpu_count() or 1


def extensions() -> list[Extension]:
    """Name what is compiled, and from what: a `.pyx`, if there is one, stands in for the `.py`."""
    modules = [declared.with_suffix("") for declared in sorted(Path(PACKAGE).glob("*.pxd"))]
    return [
        Extension(
            f"{PACKAGE}.{module.name}",
            [str(next(filter(Path.exists, map(module.with_suffix, (".pyx", ".py")))))],
            extra_compile_args=["-O2", "-g0", "-Wno-all", "-Werror=incompatible-pointer-types"],
        )
        for module in modules
    ]


class Compile(build_ext):
    """Translate and compile; what was compiled before goes first, so that no old code is left."""

    extensions: list[Any]  # of Cython's kind once they are translated
    parallel: int

    def run(self) -> None:
        """Leave all modules compiled, or none."""
        if self.inplace:  # kept there, so that only what has changed is compiled again
            self.build_lib = self.build_temp = f"build/{sys.implementation.cache_tag}"
        target = "." if self.inplace else self.build_lib
        self._remove_from(target)
        self.parallel = CPUS
        begun = time.time()
        try:
            self._translate(begun)
            super().run()
            if self.inplace:
                self._date(begun)
        except Exception as error:  # noqa: BLE001 - whatever it was: what is left runs without
            self._remove_from(target)
            self.extensions = []
            self.warn(f"{PLAIN}: {error}")

    def build_extensions(self) -> None:
        """Compile in parallel, but one module first: where it cannot be done, that is said once."""
        self.build_extension(self.extensions[0])
        super().build_extensions()

    def _translate(self, begun: float) -> None:
        from Cython.Build import cythonize  # noqa: PLC0415

        translated = cythonize(  # type: ignore[no-untyped-call]
            self.extensions,
            nthreads=CPUS,
            build_dir="build",
            quiet=True,
            compiler_directives={
                "language_level": 3,
                "annotation_typing": False,  # the types of C stand in the `.pxd`, all of them
                "show_performance_hints": False,
            },
        )
        for ours, theirs in zip(self.extensions, translated, strict=True):
            ours.sources = theirs.sources
            for file in map(Path, ours.sources):
                if file.stat().st_mtime > begun:  # as for what is compiled of it, below
                    os.utime(file, (begun, begun))

    def _date(self, begun: float) -> None:
        """Have what was compiled be as old as what was read: who edits meanwhile is told."""
        for compiled in self._compiled_in("."):
            os.utime(compiled, (begun, begun))

    def _remove_from(self, folder: str) -> None:
        for compiled in self._compiled_in(folder):
            compiled.unlink()

    @staticmethod
    def _compiled_in(folder: str) -> list[Path]:
        return [*Path(folder, PACKAGE).glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}")]


if __name__ == "__main__":  # processes that translate may import this file
    Path("build").mkdir(exist_ok=True)
    setup(
        ext_modules=extensions(),
        cmdclass={"build_ext": Compile},
        options={"egg_info": {"egg_base": "build"}},
    )
