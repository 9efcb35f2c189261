"""What pyproject.toml cannot say: an extension whose source is named client.c is a program."""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildPrograms(build_ext):
    """Links fusedm.dmsetup.client as a program, client.bin."""

    def get_ext_filename(self, fullname: str) -> str:
        name: str = super().get_ext_filename(fullname)
        return f"{name.partition('.')[0]}.bin" if _is_program(fullname) else name

    def build_extension(self, ext: Extension) -> None:
        if not _is_program(ext.name):
            super().build_extension(ext)
            return
        target = self.get_ext_fullpath(ext.name)
        objects = self.compiler.compile(ext.sources, output_dir=self.build_temp)
        self.compiler.link_executable(objects, target)


def _is_program(name: str) -> bool:
    return name.rpartition(".")[2] == "client"


setup(cmdclass={"build_ext": BuildPrograms})
