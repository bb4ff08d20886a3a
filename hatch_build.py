"""Build hook: the native decode step is compiled into the wheel, or in place for an editable install.

Where there is no C++ compiler, or it fails, the package is built without it and says so: PyTorch makes the steps then.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILD = "src/bloomery/models/native/build.py"


class NativeHook(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        spec = importlib.util.spec_from_file_location("bloomery_native_build", Path(self.root) / BUILD)
        assert spec is not None and spec.loader is not None
        native = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(native)
        try:
            made = native.build()
        except native.BuildError as error:
            native.LIBRARY.unlink(missing_ok=True)  # an older one would be of other sources
            self.app.display_warning(f"bloomery is built without its native decode step: {error}")
            return
        # A plain shared library: it knows no Python, but one kind of machine.
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append(made.relative_to(self.root).as_posix())
